// Any JSON as a schema: it is refused with kUsage, or random documents sampled under its mask end,
// are JSON, and the mask never lies. Half of the inputs run as the parameters of a strict tool.
//
// Input: one byte that chooses, then the schema as text.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "grammar/json_schema.h"
#include "grammar/test_documents.h"
#include "grammar/tool_calls.h"

namespace {

using namespace narwhal;

void expect(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const grammar::TestVocabulary vocabulary;
  static const auto trie = vocabulary.trie();
  if (size == 0) return 0;
  const auto schema = Json::parse({reinterpret_cast<const char*>(data) + 1, size - 1});
  if (!schema.ok()) return 0;
  const bool is_tool = data[0] & 1;
  const SchemaOptions limits = {.max_depth = 8, .max_nodes = 20'000};
  const ToolSpec tools[] = {{"f", &*schema, true}};
  const auto compiled = is_tool ? compile_tool_calls(tools, vocabulary.control, {.schema = limits})
                                : compile_json_schema(*schema, limits);
  if (!compiled.ok()) {
    expect(compiled.status().code() == Code::kUsage && !compiled.status().message().empty());
    return 0;
  }
  const Constraint start = Constraint::create(*compiled, trie);
  std::mt19937_64 random(data[0]);
  for (int i = 0; i < 2; i++) {
    // Long minimum lengths are no fault; a document that stops before its end would be.
    Constraint c = start;
    std::string text;
    for (int n = 0; n < 200 && !c.ended(); n++) {
      std::vector<int32_t> allowed;
      const auto mask = c.mask();
      for (int32_t id = 0; id < trie->n_tokens(); id++)
        if (test_bit(mask, id)) allowed.push_back(id);
      expect(!allowed.empty());
      int32_t id = allowed[random() % allowed.size()];
      if (c.can_end() && random() % 4 == 0) id = vocabulary.end;
      text += vocabulary.tokens[static_cast<size_t>(id)];
      expect(c.accept(id));
    }
    if (c.ended() && !is_tool) expect(Json::parse(text).ok());
  }
  return 0;
}
