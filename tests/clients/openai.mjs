// The openai package: chat completions, completions, responses, models, errors, cancellation.
import OpenAI from "openai";
import { assert, base, check, question, result, run, weather } from "./check.mjs";

const client = new OpenAI({ baseURL: `${base}/v1`, apiKey: "any", maxRetries: 0 });
const model = "minnow";
const user = (content) => [{ role: "user", content }];
const tools = [{ type: "function",
  function: { name: weather.name, description: weather.description, parameters: weather.schema } }];

check("models", async () => {
  const list = [];
  for await (const m of client.models.list()) list.push(m);
  assert.equal(list.length, 1);
  assert.equal((await client.models.retrieve(list[0].id)).id, list[0].id);
});

check("chat", async () => {
  const r = await client.chat.completions.create({ model, temperature: 0,
    messages: user("What is 4 + 5?") });
  assert.equal(r.choices[0].message.content, "4 + 5 = 9.");
  assert.ok(r.choices[0].message.reasoning_content.length > 0);
  assert.ok(r.usage.total_tokens > 0);
});

check("chat stream", async () => {
  const stream = client.chat.completions.stream({ model, temperature: 0,
    messages: user("What is 47 + 85?"), stream_options: { include_usage: true } });
  let text = "";
  stream.on("content", (piece) => (text += piece));
  const final = await stream.finalChatCompletion();
  assert.equal(text, "47 + 85 = 132.");
  assert.equal(final.choices[0].message.content, text);
  assert.equal(final.choices[0].finish_reason, "stop");
  assert.ok(final.usage.completion_tokens > 0);
});

check("chat tool round", async () => {
  const messages = user(question);
  const first = await client.chat.completions.stream({ model, temperature: 0, messages, tools })
    .finalChatCompletion();
  assert.equal(first.choices[0].finish_reason, "tool_calls");
  const call = first.choices[0].message.tool_calls[0];
  assert.deepEqual(JSON.parse(call.function.arguments), { location: "Oslo" });
  messages.push(first.choices[0].message,
    { role: "tool", tool_call_id: call.id, content: result });
  const second = await client.chat.completions.create({ model, temperature: 0, messages, tools });
  assert.match(second.choices[0].message.content, /cloudy/);
  assert.ok(second.usage.prompt_tokens_details.cached_tokens > second.usage.prompt_tokens / 2);
});

check("strict tools keep to their schema at any temperature", async () => {
  const parameters = { type: "object", required: ["location", "days"], additionalProperties: false,
    properties: { location: { enum: ["Oslo", "Rome"] }, days: { type: "integer", minimum: 1, maximum: 9 } } };
  for (let seed = 1; seed <= 5; seed++) {
    const r = await client.chat.completions.create({ model, temperature: 2, seed, max_tokens: 500,
      messages: user(question), tool_choice: "required", parallel_tool_calls: false, thinking: false,
      tools: [{ type: "function", function: { name: weather.name, strict: true, parameters } }] });
    const { location, days, ...rest } = JSON.parse(r.choices[0].message.tool_calls[0].function.arguments);
    assert.ok(["Oslo", "Rome"].includes(location) && days >= 1 && days <= 9);
    assert.deepEqual(rest, {});
  }
});

check("structured output", async () => {
  const r = await client.chat.completions.parse({ model, seed: 1, max_tokens: 400,
    messages: user("What is 4 + 5?"),
    response_format: { type: "json_schema", json_schema: { name: "sum", strict: true,
      schema: { type: "object", properties: { sum: { type: "integer", minimum: 0, maximum: 99 } },
        required: ["sum"], additionalProperties: false } } } });
  assert.equal(typeof JSON.parse(r.choices[0].message.content).sum, "number");
});

check("completions", async () => {
  const r = await client.completions.create({ model, prompt: "The", max_tokens: 4 });
  assert.equal(r.choices[0].finish_reason, "length");
  let n = 0;
  for await (const _ of await client.completions.create({ model, prompt: "The", max_tokens: 4,
    stream: true })) n++;
  assert.ok(n > 1);
});

check("responses", async () => {
  const r = await client.responses.create({ model, temperature: 0, input: "What is 4 + 5?" });
  assert.equal(r.output_text, "4 + 5 = 9.");
});

check("responses stream and tool round", async () => {
  const flat = [{ type: "function", name: weather.name, description: weather.description,
    parameters: weather.schema, strict: false }];
  const input = [{ role: "user", content: question }];
  const stream = client.responses.stream({ model, temperature: 0, input, tools: flat,
    reasoning: { summary: "auto" }, include: ["reasoning.encrypted_content"], store: false });
  let reasoning = "";
  stream.on("response.reasoning_summary_text.delta", (e) => (reasoning += e.delta));
  const first = await stream.finalResponse();
  const call = first.output.find((item) => item.type === "function_call");
  assert.deepEqual(JSON.parse(call.arguments), { location: "Oslo" });
  assert.ok(reasoning.length > 0);
  input.push(...first.output.map(({ parsed_arguments, ...item }) => item),
    { type: "function_call_output", call_id: call.call_id, output: result });
  const second = await client.responses.create({ model, temperature: 0, input, tools: flat });
  assert.match(second.output_text, /cloudy/);
  assert.ok(second.usage.input_tokens_details.cached_tokens >=
    first.usage.input_tokens + first.usage.output_tokens - 8);
});

check("a response is continued by its id", async () => {
  const first = await client.responses.create({ model, temperature: 0, input: "What is 4 + 5?" });
  const second = await client.responses.create({ model, temperature: 0, previous_response_id: first.id,
    input: "What is 12 + 30?" });
  assert.equal(second.previous_response_id, first.id);
  assert.ok(second.usage.input_tokens > first.usage.total_tokens - 40);
  await assert.rejects(
    client.responses.create({ model, previous_response_id: "resp_unknown", input: "x" }),
    (e) => e instanceof OpenAI.NotFoundError && e.code === "previous_response_not_found");
});

check("a bad request names the field", async () => {
  await assert.rejects(
    client.chat.completions.create({ model, messages: user("x"), temperature: "hot" }),
    (e) => e instanceof OpenAI.BadRequestError && e.param === "temperature");
});

check("an unknown model", async () => {
  await assert.rejects(client.models.retrieve("nothing"),
    (e) => e instanceof OpenAI.NotFoundError && e.code === "model_not_found");
});

check("cancellation", async () => {
  const stream = await client.chat.completions.create({ model, stream: true, temperature: 2,
    messages: user("Tell a story."), max_tokens: 5000 });
  for await (const _ of stream) {
    stream.controller.abort();
    break;
  }
  const r = await client.chat.completions.create({ model, temperature: 0,
    messages: user("What is 4 + 5?") });
  assert.equal(r.choices[0].message.content, "4 + 5 = 9.");
});

await run();
