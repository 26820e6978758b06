// A few lines of test harness: named checks, counted, "N passed, M failed" at the end.
import assert from "node:assert/strict";

export { assert };
export const base = process.argv[2];
if (!base) throw new Error("usage: node FILE.mjs http://127.0.0.1:PORT");

const checks = [];
export const check = (name, run) => checks.push({ name, run });

export const weather = {
  name: "get_weather",
  description: "Get the weather for a specific location",
  schema: {
    type: "object",
    properties: { location: { type: "string", description: "The city name" } },
    required: ["location"],
  },
};
export const question = "What is the weather in Oslo?";
export const result = "cloudy, 7 degrees";

export async function run() {
  let passed = 0, failed = 0;
  for (const { name, run } of checks) {
    const timeout = new Promise((_, reject) =>
      setTimeout(() => reject(new Error("no answer in 60 s")), 60_000).unref());
    try {
      await Promise.race([run(), timeout]);
      passed++;
    } catch (error) {
      failed++;
      console.log(`FAILED ${name}: ${error.stack ?? error}`);
    }
  }
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}
