// The @anthropic-ai/sdk package: messages, streams, tools, counting, errors, cancellation.
import Anthropic from "@anthropic-ai/sdk";
import { assert, base, check, question, result, run, weather } from "./check.mjs";

const client = new Anthropic({ baseURL: base, apiKey: "any", maxRetries: 0 });
const model = "claude-minnow";
const user = (content) => [{ role: "user", content }];
const tools = [{ name: weather.name, description: weather.description,
  input_schema: weather.schema, cache_control: { type: "ephemeral" } }];

check("message", async () => {
  const r = await client.messages.create({ model, max_tokens: 200, temperature: 0,
    messages: user("What is 4 + 5?") });
  assert.deepEqual(r.content.map((b) => b.type), ["thinking", "text"]);
  assert.equal(r.content[1].text, "4 + 5 = 9.");
  assert.equal(r.stop_reason, "end_turn");
});

check("stream", async () => {
  const stream = client.messages.stream({ model, max_tokens: 200, temperature: 0,
    thinking: { type: "enabled", budget_tokens: 1024 }, messages: user("What is 47 + 85?") });
  let text = "";
  stream.on("text", (piece) => (text += piece));
  const final = await stream.finalMessage();
  assert.equal(text, "47 + 85 = 132.");
  assert.ok(final.content[0].signature.length > 0);
  assert.ok(final.usage.output_tokens > 0);
});

check("tool round", async () => {
  const messages = user(question);
  const options = { model, max_tokens: 400, temperature: 0, tools,
    system: [{ type: "text", text: "You are a helpful assistant." }] };
  const first = await client.messages.stream({ ...options, messages }).finalMessage();
  assert.equal(first.stop_reason, "tool_use");
  const call = first.content.find((b) => b.type === "tool_use");
  assert.deepEqual(call.input, { location: "Oslo" });
  messages.push({ role: "assistant", content: first.content },
    { role: "user", content: [{ type: "tool_result", tool_use_id: call.id, content: result }] });
  const second = await client.messages.create({ ...options, messages });
  assert.match(second.content.find((b) => b.type === "text").text, /cloudy/);
  const before = first.usage.input_tokens + first.usage.cache_read_input_tokens +
    first.usage.output_tokens;
  assert.ok(second.usage.cache_read_input_tokens >= before - 8);
});

check("count_tokens agrees with the message", async () => {
  const messages = user("What is 4 + 5?");
  const n = (await client.messages.countTokens({ model, messages })).input_tokens;
  const r = await client.messages.create({ model, max_tokens: 1, messages });
  assert.equal(n, r.usage.input_tokens + r.usage.cache_read_input_tokens);
});

check("models", async () => {
  const list = await client.models.list();
  assert.equal(list.data.length, 1);
});

check("errors", async () => {
  await assert.rejects(
    client.messages.create({ model, max_tokens: 5,
      messages: user([{ type: "image", source: { type: "url", url: "http://x/y.png" } }]) }),
    (e) => e instanceof Anthropic.BadRequestError && /images/.test(e.message));
});

check("cancellation", async () => {
  const stream = client.messages.stream({ model, max_tokens: 5000, temperature: 1,
    messages: user("Tell a story.") });
  stream.on("text", () => stream.abort());
  stream.on("thinking", () => stream.abort());
  await assert.rejects(stream.finalMessage());
  const r = await client.messages.create({ model, max_tokens: 200, temperature: 0,
    messages: user("What is 4 + 5?") });
  assert.equal(r.content[1].text, "4 + 5 = 9.");
});

await run();
