// Any output of a model, in every API's form: each event is one line of JSON, the stream ends the
// way its API ends, and the whole reply is JSON.
//
// Input: the first byte chooses the API and whether the model thinks; the rest is what it writes,
// with the names of controls standing for the controls.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/json.h"
#include "serve/api/api.h"
#include "serve/turn_parser.h"
#include "text/test_vocab.h"

namespace {

using namespace narwhal;
using namespace narwhal::serve;

void expect(bool condition) {
  if (!condition) std::abort();
}

void check_stream(std::string_view stream) {
  expect(check_utf8(stream).ok());
  while (!stream.empty()) {
    const size_t end = stream.find('\n');
    expect(end != stream.npos);
    std::string_view line = stream.substr(0, end);
    stream.remove_prefix(end + 1);
    if (!line.starts_with("data: ")) {
      expect(line.empty() || line.starts_with("event: ") || line.starts_with(": "));
      continue;
    }
    line.remove_prefix(6);
    expect(line == "[DONE]" || Json::parse(line).ok());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const text::Tokenizer tokenizer = *text::Tokenizer::create(text::tiny_vocab());
  static const text::Controls controls = *text::Controls::find(tokenizer);
  static const text::ChatTemplate chat = *text::ChatTemplate::create(tokenizer);
  if (size == 0) return 0;
  ApiContext context;
  context.chat = &chat;
  constexpr decltype(&parse_chat) kParse[] = {parse_chat, parse_completions, parse_messages,
                                              parse_responses};
  const Json body = *Json::parse(
      R"({"messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x", "stream": true,
          "reasoning": {"summary": "auto"}, "stream_options": {"include_usage": true}})");
  const auto kind = data[0] % 4;
  auto streamed = kParse[kind](body, context), whole = kParse[kind](body, context);
  expect(streamed.ok() && whole.ok());
  whole->form->streaming = false;

  static const ToolTable tools{{*Json::parse(
      R"({"name": "f", "parameters": {"properties": {"s": {"type": "string"}, "n": {"type": "integer"}}}})")}};
  TurnParser parser(tokenizer, controls, {.in_reasoning = (data[0] & 4) != 0, .tools = &tools});
  OutputEvents output;
  for (int32_t id : tokenizer.encode_special({reinterpret_cast<const char*>(data) + 1, size - 1}))
    parser.push(id, output);
  parser.finish((data[0] & 8) != 0, output);

  std::string out, unused;
  streamed->form->begin(out);
  const auto send = [&](const TurnEvent& e) {
    streamed->form->event(e, out);
    whole->form->event(e, unused);
  };
  send({.kind = TurnEvent::kStarted, .key = "0"});
  constexpr TurnEvent::Kind kKinds[] = {TurnEvent::kReasoning, TurnEvent::kContent,
                                        TurnEvent::kCallStart, TurnEvent::kCallArguments,
                                        TurnEvent::kCallEnd};
  for (const OutputEvent& e : output) {
    send({.kind = kKinds[e.kind], .text = e.text, .id = "call_0"});
    if (e.text.size() % 7 == 0) streamed->form->keep_alive(3, out);
  }
  send({.kind = TurnEvent::kDone, .finish = static_cast<Finish>(data[0] / 16 % 4)});
  check_stream(out);
  expect(unused.empty() && Json::parse(whole->form->body()).ok());
  return 0;
}
