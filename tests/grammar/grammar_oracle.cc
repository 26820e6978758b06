// grammar_oracle: answers requests, one JSON object a line, for comparison with other programs.
//
//   {"schema": S, "texts": [T, ...], "samples": N, "seed": K}
//   -> {"accepted": [true, ...], "samples": [text, ...]}   or   {"error": "..."}
#include <fmt/format.h>

#include <cstdio>
#include <iostream>

#include "base/json.h"
#include "grammar/json_schema.h"
#include "grammar/test_documents.h"

namespace {

using namespace narwhal;

Result<Json> answer(const std::string& line, const grammar::TestVocabulary& vocabulary,
                    const std::shared_ptr<const TokenTrie>& trie) {
  NW_ASSIGN(const Json request, Json::parse(line));
  NW_ASSIGN(const auto compiled, compile_json_schema(request["schema"], {}));
  const Constraint start = Constraint::create(compiled, trie);
  Json out = Json::object();
  Json accepted = Json::array(), samples = Json::array();
  for (const Json& text : request["texts"].items)
    accepted.push(Json::of(grammar::matches(start, text.text)));
  std::mt19937_64 random(static_cast<uint64_t>(request["seed"].as_int()));
  for (int64_t i = 0; i < request["samples"].as_int(); i++) {
    const auto text = grammar::random_document(vocabulary, start, random, 40);
    if (!text) return failed("a random document did not end");
    samples.push(Json::of(*text));
  }
  out.set("accepted", std::move(accepted));
  out.set("samples", std::move(samples));
  return out;
}

}  // namespace

int main() {
  const grammar::TestVocabulary vocabulary;
  const auto trie = vocabulary.trie();
  for (std::string line; std::getline(std::cin, line);) {
    auto out = answer(line, vocabulary, trie);
    Json reply = Json::object();
    if (out.ok())
      reply = *std::move(out);
    else
      reply.set("error", Json::of(out.status().message()));
    fmt::print("{}\n", reply.dump());
    std::fflush(stdout);
  }
}
