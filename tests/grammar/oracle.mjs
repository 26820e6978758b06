// Compares grammars with two judges from npm: the JSON Schema Test Suite (which documents are
// valid) and ajv (whether what is generated under the mask is).
//
//   node oracle.mjs GRAMMAR_ORACLE [TESTS DRAFT]    with the packages in ./node_modules
//   TESTS: the folder "tests" of another edition of the suite; DRAFT: a folder in it, "draft2020-12"
//
// A document is tried in every order of its members, since a grammar fixes the order, and both
// compact and with spaces. Ends with "N passed, M failed".
import { createRequire } from "node:module";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import fs from "node:fs";
import path from "node:path";

const require = createRequire(path.join(process.cwd(), "package.json"));
const Ajv = require("ajv");
const AjvDraft2020 = require("ajv/dist/2020");
const addFormats = require("ajv-formats");
const [program, suiteGiven, draft = "draft4"] = process.argv.slice(2);
const suiteDir =
  suiteGiven ?? path.join(path.dirname(require.resolve("json-schema-test-suite")), "tests");
const casesDir = path.dirname(new URL(import.meta.url).pathname);

// Where the suite and the grammars differ on purpose: draft 4 ignores what stands beside $ref, and
// its oldest version calls a URI without a scheme valid.
const differs = new Set([
  "ref overrides any sibling keywords/ref valid, maxItems ignored",
  "validation of URIs/a valid protocol-relative URI",
  "ref overrides any sibling keywords/$ref valid, maxItems ignored",
]);

let passed = 0;
let failed = 0;
function check(condition, what) {
  if (condition) return void passed++;
  failed++;
  console.log(`FAILED ${what}`);
}

class Oracle {
  constructor(program) {
    this.child = spawn(program, { stdio: ["pipe", "pipe", "inherit"] });
    this.waiting = [];
    createInterface({ input: this.child.stdout }).on("line", (line) =>
      this.waiting.shift()(JSON.parse(line)),
    );
    this.child.on("exit", () => this.waiting.forEach((f) => f({ died: true })));
  }
  ask(request) {
    return new Promise((resolve) => {
      this.waiting.push(resolve);
      this.child.stdin.write(JSON.stringify(request) + "\n");
    });
  }
  end() {
    this.child.stdin.end();
  }
}

function* permutations(list) {
  if (list.length < 2) return void (yield list);
  for (let i = 0; i < list.length; i++)
    for (const rest of permutations([...list.slice(0, i), ...list.slice(i + 1)]))
      yield [list[i], ...rest];
}

// Numbers without an exponent, as documents under bounds have them.
function numberText(value) {
  const text = JSON.stringify(value);
  if (!/e/i.test(text)) return text;
  const plain = value.toLocaleString("en", { useGrouping: false, maximumFractionDigits: 20 });
  return Number(plain) === value ? plain : text;
}

// Every spelling of a value: up to 1,000 of them, by the order of members, with spaces or without.
function spellings(value, comma, colon) {
  if (typeof value === "number") return [numberText(value)];
  if (value === null || typeof value !== "object") return [JSON.stringify(value)];
  const join = (parts, open, close) =>
    parts
      .reduce(
        (sofar, options) =>
          sofar.flatMap((head) => options.map((o) => [...head, o])).slice(0, 1000),
        [[]],
      )
      .map((list) => open + list.join(comma) + close);
  if (Array.isArray(value)) return join(value.map((v) => spellings(v, comma, colon)), "[", "]");
  const out = [];
  const names = Object.keys(value);
  for (const order of names.length > 5 ? [names] : permutations(names)) {
    const parts = order.map((n) =>
      spellings(value[n], comma, colon).map((v) => JSON.stringify(n) + colon + v),
    );
    out.push(...join(parts, "{", "}"));
  }
  return out.slice(0, 1000);
}

const counts = { schemas: 0, refused: 0, valid: 0, invalid: 0, samples: 0 };
const refusals = new Map();

// All documents of one schema; `samples` random ones are judged by `validate`.
async function checkSchema(oracle, name, schema, tests, validate, samples) {
  const texts = [];
  for (const t of tests) {
    t.from = texts.length;
    texts.push(...spellings(t.data, ",", ":"), ...spellings(t.data, ", ", ": "));
    t.to = texts.length;
  }
  counts.schemas++;
  const reply = await oracle.ask({ schema, texts, samples: validate ? samples : 0, seed: 7 });
  if (reply.died) return check(false, `${name}: the oracle died`);
  if (reply.error) {
    counts.refused++;
    const isImpossible = /nothing can match/.test(reply.error);
    if (isImpossible) check(!tests.some((t) => t.valid), `${name}: ${reply.error}`);
    const reason = isImpossible ? "nothing can match" : reply.error.replace(/^schema [^ ]*\/|: .*$/g, "");
    refusals.set(reason, (refusals.get(reason) ?? 0) + 1);
    return check(/^schema/.test(reply.error), `${name}: refused without a place: ${reply.error}`);
  }
  for (const t of tests) {
    const full = `${name}/${t.description}`;
    if (differs.has(full)) continue;
    counts[t.valid ? "valid" : "invalid"]++;
    const any = reply.accepted.slice(t.from, t.to).some(Boolean);
    check(any === t.valid, `${full}: ${any ? "accepted" : "rejected"} ${JSON.stringify(t.data)}`);
  }
  for (const text of reply.samples) {
    counts.samples++;
    let data;
    try {
      data = JSON.parse(text);
    } catch (error) {
      check(false, `${name}: generated ${text}: ${error.message}`);
      continue;
    }
    check(validate(data), `${name}: generated ${text}: ${JSON.stringify(validate.errors)}`);
  }
}

// Ajv for one schema, or null when it refuses it.
function judge(schema, edition) {
  const options = { strict: false, logger: false, multipleOfPrecision: 4 };
  try {
    const ajv =
      edition === "draft4"
        ? new Ajv(options)
        : new AjvDraft2020(options);
    addFormats(ajv);
    return ajv.compile(schema);
  } catch {
    return null;
  }
}

function suiteFiles() {
  const dir = path.join(suiteDir, draft);
  const optional = path.join(dir, "optional");
  const files = fs.readdirSync(dir).filter((f) => f.endsWith(".json")).map((f) => path.join(dir, f));
  // Of the optional part: formats. The other files are about big numbers and 1.0 as an integer.
  return [...files, path.join(optional, "format.json")].filter((f) => fs.existsSync(f));
}

async function main() {
  const oracle = new Oracle(program);
  for (const file of suiteFiles())
    for (const group of JSON.parse(fs.readFileSync(file, "utf8"))) {
      // Draft 4's boolean exclusiveMinimum is none of ajv's drafts; the suite alone judges it.
      const validate = draft === "draft4" && /exclusiveM|"id"/.test(JSON.stringify(group.schema))
        ? null
        : judge(group.schema, draft);
      await checkSchema(oracle, group.description, group.schema, group.tests, validate, 10);
    }
  console.log(
    `test suite: ${counts.schemas} schemas, ${counts.refused} refused by name; ` +
      `${counts.valid} valid and ${counts.invalid} invalid documents; ` +
      `${counts.samples} generated documents judged by ajv`,
  );
  for (const [reason, n] of [...refusals].sort()) console.log(`  refused ${n}: ${reason}`);

  const before = { ...counts };
  const cases = JSON.parse(fs.readFileSync(path.join(casesDir, "schemas.json"), "utf8"));
  for (const { name, schema, tests } of cases) {
    const validate = judge(schema, "2020");
    check(validate !== null, `${name}: ajv refuses the schema`);
    const judged = (tests ?? []).map((data) => ({ data, valid: validate(data), description: "" }));
    await checkSchema(oracle, name, schema, judged, validate, 100);
  }
  console.log(
    `own schemas: ${counts.schemas - before.schemas}, ` +
      `${counts.samples - before.samples} generated documents judged by ajv`,
  );
  check(counts.refused === before.refused, "a schema of schemas.json was refused");
  check(counts.valid > 80 && counts.invalid > 100, "too few documents were compared");
  oracle.end();
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed ? 1 : 0;
}

await main();
