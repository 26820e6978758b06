#include "eval/skills.h"

#include <gtest/gtest.h>

#include "eval/examiner.h"

namespace narwhal::eval {
namespace {

class Skills : public ::testing::Test {
 protected:
  void SetUp() override {
    auto engine =
        Engine::open({.backend = "cpu", .n_ctx = 1400, .n_sessions = Examiner::kSessions});
    ASSERT_TRUE(engine.ok()) << engine.status().message();
    engine_ = *std::move(engine);
  }
  Examiner examiner() { return *Examiner::create(*engine_); }
  std::unique_ptr<Engine> engine_;
};

TEST_F(Skills, TellsRightRepliesFromWrongOnes) {
  const Exercise right{"What is the capital of Italy?", "The capital of Italy is Rome.",
                       "The user asks for a capital city."};
  Exercise wrong = right;
  wrong.answer = "The capital of Italy is Oslo.";
  Exercise longer = right;
  longer.answer += " Yes.";  // right at first, but the model would have stopped
  Dice d(1, "x");
  Examiner e = examiner();
  for (const bool thinking : {false, true}) {
    const auto v = e.examine({one_question(d, right, thinking), one_question(d, wrong, thinking),
                              one_question(d, longer, thinking)});
    ASSERT_TRUE(v.ok()) << v.status().message();
    EXPECT_TRUE((*v)[0].right);
    EXPECT_FALSE((*v)[1].right);
    EXPECT_NE((*v)[1].miss.find("is["), std::string::npos) << (*v)[1].miss;
    EXPECT_FALSE((*v)[2].right);
  }
}

// Reading a reference must say what generating would have given.
TEST_F(Skills, ReadingAgreesWithGenerating) {
  Dice d(3, "agree");
  Examiner e = examiner();
  const text::Tokenizer& tokenizer = *engine_->tokenizer();
  for (int i = 0; i < 12; i++) {
    const Case c = text_case(d, "sort numbers", false);
    const auto verdict = e.examine({c});
    ASSERT_TRUE(verdict.ok());
    auto chat = text::ChatTemplate::create(tokenizer);
    auto messages = c.messages;
    messages.pop_back();
    const auto prompt = (*chat).render(messages, {});
    auto session = *engine_->new_session();
    ASSERT_TRUE(session->sync(text::encode_prompt(tokenizer, *prompt)).ok());
    std::vector<int32_t> answer;
    while (answer.size() < 100) {
      const auto logits = session->logits();
      const auto id =
          static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
      if (id == tokenizer.eos()) break;
      answer.push_back(id);
      ASSERT_TRUE(session->append({&id, 1}).ok());
    }
    EXPECT_EQ((*verdict)[0].right, tokenizer.decode(answer) == c.messages.back().content);
  }
}

TEST_F(Skills, ReportHoldsEverySkillThatFits) {
  const auto report = evaluate_skills(*engine_, {.seed = 5, .n = 4}, {});
  ASSERT_TRUE(report.ok()) << report.status().message();
  const Json j = (*report).to_json();
  for (const char* key : {"chat", "recall_1k", "text", "tools"}) {
    const Json* share = j.find(key);
    ASSERT_TRUE(share) << key;
    EXPECT_GE(share->as_double(-1), 0) << key;
    EXPECT_LE(share->as_double(-1), 1) << key;
    EXPECT_GT(j["n"][key].as_int(), 0) << key;
  }
  EXPECT_FALSE(j.find("recall_4k"));  // the context holds 1400 tokens
  const Skill& recall = *(*report).skill("recall_1k");
  EXPECT_EQ(recall.n(), 4);
  int n_by_length = 0;
  for (const SubSkill& s : recall.views)
    if (s.name.ends_with("mod 4")) n_by_length += s.n;
  EXPECT_EQ(n_by_length, 4);
}

TEST_F(Skills, StopsWhenAsked) {
  const auto report = evaluate_skills(*engine_, {.n = 4}, [](int64_t, int64_t) { return false; });
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.status().code(), Code::kCancelled);
}

}  // namespace
}  // namespace narwhal::eval
