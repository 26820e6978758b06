// The built-in model through the whole engine: what it answers, greedily, to the prompts that its
// trainer recorded (tests/data/minnow), and that nothing about caching or batching changes it.
#include <gtest/gtest.h>

#include <algorithm>

#include "base/file.h"
#include "base/json.h"
#include "narwhal/engine.h"
#include "text/tokenizer.h"

namespace narwhal {
namespace {

std::unique_ptr<Engine> open_minnow(int n_sessions = 1) {
  auto engine = Engine::open({.n_ctx = 4096, .n_sessions = n_sessions});
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  return *std::move(engine);
}

int32_t best(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

std::string greedy(Engine& engine, Session& session, const std::string& prompt, int limit = 200) {
  const text::Tokenizer& tokenizer = *engine.tokenizer();
  EXPECT_TRUE(session.sync(tokenizer.encode_special(prompt)).ok());
  std::vector<int32_t> out;
  while (static_cast<int>(out.size()) < limit) {
    out.push_back(best(session.logits()));
    if (out.back() == tokenizer.eos()) break;
    EXPECT_TRUE(session.append({&out.back(), 1}).ok());
  }
  return tokenizer.decode(out);
}

Json samples() {
  return *Json::parse(*read_file(std::string(NARWHAL_TEST_DATA) + "/minnow/samples.json"));
}

TEST(Minnow, AnswersAsItsTrainerRecorded) {
  const auto engine = open_minnow();
  auto session = *engine->new_session();
  for (const Json& sample : samples().items) {
    const std::string prompt = sample["prompt"].text, want = sample["reply"].text;
    const std::string got = greedy(*engine, *session, prompt);
    if (prompt.find("story") != std::string::npos) {
      // Free text: the quantised weights may choose other words.
      EXPECT_EQ(got.rfind("I will tell a story about a fox.</think>Once there was a ", 0), 0u)
          << got;
      EXPECT_NE(got.find("fox"), std::string::npos);
      continue;
    }
    EXPECT_EQ(got, want) << prompt.substr(prompt.size() > 120 ? prompt.size() - 120 : 0);
  }
}

TEST(Minnow, CachedIsCold) {
  const auto engine = open_minnow(2);
  auto warm = *engine->new_session();
  for (const Json& sample : samples().items) {
    const std::string& prompt = sample["prompt"].text;
    const std::string first = greedy(*engine, *warm, prompt, 60);
    EXPECT_EQ(greedy(*engine, *warm, prompt, 60), first);
    // Shorter prompts have no frontier to return to: they are computed again.
    const auto n = static_cast<int64_t>(engine->tokenizer()->encode_special(prompt).size());
    EXPECT_GE(warm->n_reused(), (n - 1) / 128 * 128) << n;
    const auto other = open_minnow();
    EXPECT_EQ(greedy(*other, **other->new_session(), prompt, 60), first);
  }
}

// A fact said some 8,000 tokens ago, far behind the window: it comes back through the index's
// choice of compressed rows.
TEST(Minnow, RecallsAFactFromFarAway) {
  constexpr const char* kAnimals[] = {"fox", "owl", "hare", "crow", "lamb", "seal", "goat", "duck"};
  constexpr const char* kPlaces[] = {"river",  "harbour", "chapel", "market",
                                     "forest", "tower",   "school", "museum"};
  constexpr const char* kNames[] = {"Anna", "Felix", "Greta", "Jonas", "Karla", "Simon", "Zoe"};
  constexpr const char* kLooks[] = {"calm", "brave", "rusty", "wild", "gentle", "crooked"};
  const auto engine = Engine::open({.n_ctx = 8448});
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  const text::Tokenizer& tokenizer = *(*engine)->tokenizer();
  std::string text = "<｜begin▁of▁sentence｜><｜User｜>";
  for (int i = 0; i < 940; i++) {
    const std::string animal = kAnimals[i % 8], place = kPlaces[i / 8 % 8];
    const std::string name = kNames[i % 7], look = kLooks[i / 7 % 6];
    if (i == 40) text += "The code of the red door is K7Q2X. ";
    if (i % 2 == 0)
      text += name + " had never seen such a " + look + " " + animal + ". ";
    else
      text += "The " + look + " " + animal + " slept near the " + place + ". ";
  }
  const std::string prompt = text + "\n\nWhat is the code of the red door?<｜Assistant｜></think>";
  const auto n = static_cast<int64_t>(tokenizer.encode_special(prompt).size());
  EXPECT_GT(n, 7000);
  EXPECT_LT(n, 8400);
  auto session = *(*engine)->new_session();
  EXPECT_EQ(greedy(**engine, *session, prompt, 40),
            "The code of the red door is K7Q2X.<｜end▁of▁sentence｜>")
      << n;
}

TEST(Minnow, SessionsInOneStepAnswerAsAlone) {
  const Json all = samples();
  const int n = static_cast<int>(all.items.size());
  const auto engine = open_minnow(n);
  const text::Tokenizer& tokenizer = *engine->tokenizer();
  std::vector<std::unique_ptr<Session>> sessions;
  std::vector<std::vector<int32_t>> replies(n);
  for (const Json& sample : all.items) {
    sessions.push_back(*engine->new_session());
    ASSERT_TRUE(sessions.back()->sync(tokenizer.encode_special(sample["prompt"].text)).ok());
  }
  for (int step = 0; step < 30; step++) {
    std::vector<Engine::Append> parts;
    for (int i = 0; i < n; i++) {
      if (!replies[i].empty() && replies[i].back() == tokenizer.eos()) continue;
      replies[i].push_back(best(sessions[i]->logits()));
    }
    for (int i = 0; i < n; i++)
      if (replies[i].back() != tokenizer.eos())
        parts.push_back({sessions[i].get(), {&replies[i].back(), 1}, true});
    if (parts.empty()) break;
    ASSERT_TRUE(engine->step(parts).ok());
  }
  for (int i = 0; i < n; i++) {
    const auto alone = open_minnow();
    const std::string want =
        greedy(*alone, **alone->new_session(), all.items[i]["prompt"].text, 30);
    replies[i].resize(std::min<size_t>(replies[i].size(), 30));
    EXPECT_EQ(tokenizer.decode(replies[i]), want);
  }
}

}  // namespace
}  // namespace narwhal
