// Any tokens the model may sample: what comes out is UTF-8, arguments are JSON objects, the strict
// reader and the streaming one agree where the strict one is content, and calls that were read
// survive rendering and reading again.
//
// Input: the first byte says whether the output begins in reasoning; the rest is text in which the
// names of the controls ("｜DSML｜", "</think>" ...) stand for the controls. A NUL hides the name
// that follows it, so that spelled-out markup is covered too.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "text/dsml.h"
#include "text/output_parser.h"
#include "text/test_vocab.h"

namespace {

using namespace narwhal::text;

void expect(bool condition) {
  if (!condition) std::abort();
}

Prompt items_of(const Tokenizer& tokenizer, std::string_view text) {
  Prompt items;
  size_t at = 0;
  while (const auto match = tokenizer.find_added(text, at)) {
    const std::string_view name = text.substr(match->begin, match->length);
    const bool hidden = match->begin > at && text[match->begin - 1] == '\0';
    add_text(items, text.substr(at, match->begin - at - (hidden ? 1 : 0)));
    if (hidden)
      add_text(items, name);
    else
      add_control(items, {match->id, name});
    at = match->begin + match->length;
  }
  add_text(items, text.substr(at));
  return items;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Tokenizer tokenizer = *Tokenizer::create(tiny_vocab());
  static const Controls controls = *Controls::find(tokenizer);
  if (size == 0) return 0;
  const bool thinking = data[0] & 1;
  const Prompt items = items_of(tokenizer, {reinterpret_cast<const char*>(data) + 1, size - 1});

  OutputParser parser(tokenizer, controls, thinking);
  std::vector<ToolCall> calls;
  const auto take = [&](const OutputParser::Events& events) {
    for (const OutputEvent& e : events) {
      expect(narwhal::check_utf8(e.text).ok() && narwhal::check_utf8(e.raw).ok());
      if (e.kind != OutputEvent::kToolCall) continue;
      const auto arguments = narwhal::Json::parse(e.call.arguments);
      expect(arguments.ok() && arguments->is_object());
      calls.push_back(e.call);
    }
  };
  for (const int32_t id : encode_prompt(tokenizer, items)) take(parser.push(id));
  take(parser.finish());

  const auto strict = parse_completion(controls, items, thinking);
  if (!strict.ok()) return 0;
  // Strictly, a value runs to its closer whatever it contains; the streaming reader takes another
  // tag made with the control as a sign that the closer was forgotten.
  for (const ToolCall& call : strict->tool_calls)
    if (call.arguments.find(controls.dsml.name) != std::string::npos) return 0;
  expect(strict->tool_calls == calls);

  Prompt again;
  add_text(again, strict->reasoning);
  if (thinking) add_control(again, controls.end_think);
  add_text(again, strict->content);
  render_tool_calls(again, controls, strict->tool_calls);
  add_control(again, controls.eos);
  const auto reread = parse_completion(controls, again, thinking);
  // Names are not escaped, so one that contains markup may change the structure.
  if (!reread.ok() || reread->tool_calls.size() != calls.size()) return 0;
  expect(reread->reasoning == strict->reasoning && reread->content == strict->content);
  return 0;
}
