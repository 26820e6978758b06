// The ai package with @ai-sdk/openai-compatible, which opencode is built on.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { assert, base, check, question, result, run, weather } from "./check.mjs";

const model = createOpenAICompatible({ name: "narwhal", baseURL: `${base}/v1`,
  includeUsage: true })("minnow");

check("generateText", async () => {
  const r = await generateText({ model, temperature: 0, prompt: "What is 4 + 5?", maxRetries: 0 });
  assert.equal(r.text, "4 + 5 = 9.");
  assert.ok(r.reasoningText.length > 0);
});

check("streamText runs a tool and goes on", async () => {
  const asked = [];
  const r = streamText({ model, temperature: 0, prompt: question, maxRetries: 0,
    stopWhen: stepCountIs(3),
    tools: { [weather.name]: tool({ description: weather.description,
      inputSchema: jsonSchema(weather.schema),
      execute: async ({ location }) => { asked.push(location); return result; } }) } });
  assert.match(await r.text, /cloudy/);
  assert.deepEqual(asked, ["Oslo"]);
  assert.ok((await r.totalUsage).totalTokens > 0);
});

check("abort", async () => {
  const controller = new AbortController();
  const r = streamText({ model, prompt: "Tell a story.", maxRetries: 0,
    abortSignal: controller.signal, onError: () => {} });
  for await (const part of r.fullStream) {
    if (part.type === "reasoning-delta" || part.type === "text-delta") controller.abort();
  }
});

await run();
