// Constrained decoding at DeepSeek V4's vocabulary of 129,280 tokens: what a mask costs.
//
// NARWHAL_TEST_DATA is the path of tests/data, for the vocabulary.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <string>
#include <vector>

#include "grammar/constraint.h"
#include "grammar/json_schema.h"
#include "grammar/tool_calls.h"
#include "text/test_vocab.h"
#include "text/tokenizer.h"

namespace narwhal {
namespace {

// Of this thread's work: on a busy machine the clock on the wall measures the others.
double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

const text::Tokenizer& tokenizer() {
  static const text::Tokenizer t = *text::Tokenizer::create(*text::v4_vocab(NARWHAL_TEST_DATA));
  return t;
}

std::shared_ptr<const TokenTrie> make_trie() {
  std::vector<std::string_view> tokens;
  for (int32_t id = 0; id < tokenizer().vocab_size(); id++)
    tokens.push_back(tokenizer().is_control(id) ? std::string_view() : tokenizer().bytes(id));
  return TokenTrie::create(tokens, std::array{tokenizer().eos()});
}

const std::shared_ptr<const TokenTrie>& trie() {
  static const auto t = make_trie();
  return t;
}

constexpr const char* kPerson = R"({"type": "object", "properties": {
    "name": {"type": "string", "minLength": 1, "maxLength": 80},
    "age": {"type": "integer", "minimum": 0, "maximum": 150},
    "born": {"type": "string", "format": "date"},
    "mail": {"type": "string", "pattern": "^[a-z.]+@[a-z]+\\.[a-z]{2,3}$"},
    "kind": {"enum": ["employee", "customer", "supplier"]},
    "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 10},
    "address": {"type": "object", "properties": {"street": {"type": "string"},
      "city": {"type": "string"}, "zip": {"type": "string", "pattern": "^[0-9]{5}$"}},
      "required": ["street", "city"], "additionalProperties": false}},
    "required": ["name", "age", "kind"], "additionalProperties": false})";
constexpr const char* kPersonText =
    R"({"name": "Ada Lovelace, Countess of Lovelace", "age": 36, "born": "1815-12-10", )"
    R"("mail": "ada@engine.org", "kind": "employee", "tags": ["mathematics", "analytical engine", )"
    R"("poetical science"], "address": {"street": "12 St James's Square, near Piccadilly", )"
    R"("city": "London", "zip": "00001"}})";
constexpr const char* kAnyText =
    R"({"a": [1, 2.5, -3e10, {"b": "text with é and \"quotes\"", "c": null}], "d": {"e": {"f": )"
    R"([true, false, "a longer piece of prose, as models like to write into their answers."]}}})";

std::shared_ptr<const Grammar> grammar_of(const std::string& schema) {
  return *compile_json_schema(*Json::parse(schema), {});
}

std::string wide_schema(int n_properties) {
  Json properties = Json::object();
  for (int i = 0; i < n_properties; i++)
    properties.set(fmt::format("property_{}", i),
                   *Json::parse(i % 3 ? R"({"type": "string"})" : R"({"type": "number"})"));
  Json schema = Json::object();
  schema.set("type", Json::of("object"));
  schema.set("properties", std::move(properties));
  return schema.dump();
}

void build_trie(benchmark::State& state) {
  for (auto _ : state) benchmark::DoNotOptimize(make_trie());
}

void compile(benchmark::State& state, const std::string& schema) {
  const Json json = *Json::parse(schema);
  for (auto _ : state) benchmark::DoNotOptimize(compile_json_schema(json, {}));
}

// Masks along a document, each the first of its grammar; fresh_vocabulary: of the vocabulary too.
void first_masks(benchmark::State& state, const std::string& schema, const std::string& document,
                 bool fresh_vocabulary) {
  const auto grammar = grammar_of(schema);
  const auto ids = tokenizer().encode(document);
  double worst = 0;
  for (auto _ : state) {
    state.PauseTiming();
    const auto vocabulary = fresh_vocabulary ? make_trie() : trie();
    Constraint c = Constraint::create(grammar, vocabulary);
    state.ResumeTiming();
    for (const int32_t id : ids) {
      const double start = cpu_seconds();
      benchmark::DoNotOptimize(c.mask().data());
      worst = std::max(worst, cpu_seconds() - start);
      if (!c.accept(id)) state.SkipWithError("the document is not accepted");
    }
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(ids.size()));
  state.counters["worst_us"] = worst * 1e6;
  state.counters["tokens"] = static_cast<double>(ids.size());
}

// The same when every mask was computed before, as in the second request with a schema.
void known_masks(benchmark::State& state, const std::string& schema, const std::string& document) {
  const Constraint start = Constraint::create(grammar_of(schema), trie());
  const auto ids = tokenizer().encode(document);
  const auto run = [&] {
    Constraint c = start;
    for (const int32_t id : ids) {
      benchmark::DoNotOptimize(c.mask().data());
      if (!c.accept(id)) state.SkipWithError("the document is not accepted");
    }
  };
  run();
  for (auto _ : state) run();
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(ids.size()));
}

// Free text before a tool call: what every token of an answer pays.
void text_until_call(benchmark::State& state) {
  const ToolSpec tools[] = {{"read_file", nullptr, false}};
  const auto grammar =
      *compile_tool_calls(tools, tokenizer().id_of("｜DSML｜"), {.start = ToolStart::kText});
  Constraint c = Constraint::create(grammar, trie());
  const auto ids = tokenizer().encode("Let me look at the file.\n\nThe parser reads it twice, ");
  for (auto _ : state)
    for (const int32_t id : ids) {
      benchmark::DoNotOptimize(c.mask().data());
      if (!c.accept(id)) state.SkipWithError("the text is not accepted");
    }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(ids.size()));
}

BENCHMARK(build_trie)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(compile, person, kPerson)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(compile, properties_1000, wide_schema(1000))->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(first_masks, person_first_ever, kPerson, kPersonText, true)
    ->Unit(benchmark::kMicrosecond)
    ->Iterations(5);
BENCHMARK_CAPTURE(first_masks, person, kPerson, kPersonText, false)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(first_masks, any_json, "true", kAnyText, false)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(known_masks, person, kPerson, kPersonText)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(known_masks, any_json, "true", kAnyText)->Unit(benchmark::kMicrosecond);
BENCHMARK(text_until_call)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace narwhal

BENCHMARK_MAIN();
