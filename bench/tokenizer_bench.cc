// Tokenizer speed on one core, in bytes of text a second.
//
// NARWHAL_TEST_DATA is the path of tests/data, for the vocabulary.
#include <benchmark/benchmark.h>

#include <cstdlib>
#include <random>
#include <string>

#include "text/splitter.h"
#include "text/test_vocab.h"
#include "text/tokenizer.h"

namespace narwhal::text {
namespace {

const Vocab& vocab() {
  static const Vocab v = [] {
    auto read = v4_vocab(NARWHAL_TEST_DATA);
    if (!read.ok()) {
      fmt::print(stderr, "{}\n", read.status().message());
      std::abort();
    }
    return *std::move(read);
  }();
  return v;
}

const Tokenizer& tokenizer() {
  static const Tokenizer t = *Tokenizer::create(vocab());
  return t;
}

// Prose of English words from the vocabulary, common ones more often, with punctuation.
std::string prose(size_t n_bytes) {
  std::vector<std::string_view> words;
  for (int32_t id = 259; id < 30000; id++) {
    const std::string_view b = tokenizer().bytes(id);
    const auto is_letter = [](char c) { return c >= 'a' && c <= 'z'; };
    if (b.size() > 2 && b[0] == ' ' && std::all_of(b.begin() + 1, b.end(), is_letter))
      words.push_back(b);
  }
  std::mt19937 random(1);
  std::exponential_distribution<double> rank(1.0 / 800);
  std::string text;
  while (text.size() < n_bytes) {
    text += words[std::min(static_cast<size_t>(rank(random)), words.size() - 1)];
    if (random() % 12 == 0) text += ",";
    if (random() % 15 == 0) text += ".";
    if (random() % 80 == 0) text += "\n\n";
  }
  return text;
}

std::string repeated(std::string_view unit, size_t n_bytes) {
  std::string text;
  while (text.size() < n_bytes) text += unit;
  return text;
}

std::string random_letters(size_t n_bytes) {
  std::mt19937 random(2);
  std::string text;
  for (size_t i = 0; i < n_bytes; i++) text += "etaoinshrdlu    "[random() % 16];
  return text;
}

void encode(benchmark::State& state, const std::string& text) {
  size_t n_tokens = 0;
  for (auto _ : state) {
    const auto ids = tokenizer().encode(text);
    benchmark::DoNotOptimize(ids.data());
    n_tokens = ids.size();
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
  state.counters["bytes/token"] = static_cast<double>(text.size()) / static_cast<double>(n_tokens);
}

void split(benchmark::State& state, const std::string& text) {
  for (auto _ : state) {
    size_t n = 0;
    for (size_t at = 0; at < text.size(); at = piece_end(text, at)) n++;
    benchmark::DoNotOptimize(n);
  }
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * text.size()));
}

void create(benchmark::State& state) {
  for (auto _ : state) {
    const auto t = Tokenizer::create(vocab());
    benchmark::DoNotOptimize(t.ok());
  }
}

constexpr size_t kMiB = 1 << 20;
BENCHMARK_CAPTURE(encode, english_1MiB, prose(kMiB))->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, english_1KiB, prose(1024))->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(encode, random_letters_1MiB, random_letters(kMiB))->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, chinese_1MiB,
                  repeated("深度求索公司创造的模型，能够回答各种问题。", kMiB))
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, one_letter_1MiB, std::string(kMiB, 'a'))->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, spaces_1MiB, std::string(kMiB, ' '))->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(encode, digits_1MiB, std::string(kMiB, '7'))->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(split, english_1MiB, prose(kMiB))->Unit(benchmark::kMillisecond);
BENCHMARK(create)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace narwhal::text

BENCHMARK_MAIN();
