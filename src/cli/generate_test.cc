#include "cli/generate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "cli/conversation.h"
#include "cli/setup.h"
#include "cli/terminal.h"
#include "text/test_vocab.h"

namespace narwhal::cli {
namespace {

// A session whose "model" writes a fixed script of tokens after whatever prompt it is given, but
// likes a control token best everywhere.
class ScriptedSession : public Session {
 public:
  ScriptedSession(int64_t n_vocab, int64_t n_ctx) : n_ctx_(n_ctx), logits_(n_vocab, 0.0f) {}

  std::vector<int32_t> script;
  int32_t tempting = -1;  // always has the largest logit
  int n_marks = 0;

  int64_t n_ctx() const override { return n_ctx_; }
  std::span<const int32_t> tokens() const override { return tokens_; }
  Status sync(std::span<const int32_t> tokens, const ProgressFn& progress) override {
    const auto common = std::mismatch(tokens_.begin(), tokens_.end(), tokens.begin(), tokens.end());
    reuse_.n_tokens = common.first - tokens_.begin();
    tokens_.assign(tokens.begin(), tokens.end());
    if (progress && !progress(0, 1)) return cancelled();
    prompt_ = tokens_.size();
    return next();
  }
  const Reuse& reuse() const override { return reuse_; }
  Status append(std::span<const int32_t> tokens, const ProgressFn&, const LogitsFn&) override {
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
    return next();
  }
  const Candidates& candidates() const override { return best_; }
  std::span<const float> logits() const override { return logits_; }

  // Not used by a generator.
  Result<Reuse> resume(std::span<const int32_t>) override { return failed("scripted"); }
  Status rewind(int64_t, const ProgressFn&) override { return failed("scripted"); }
  Result<std::unique_ptr<Session>> fork() override { return failed("scripted"); }
  void mark(Mark) override { n_marks++; }
  int64_t next_cut(int64_t n_left, int64_t at_most) const override {
    return std::min(n_left, at_most);
  }
  Status snapshot(const std::string&) const override { return failed("scripted"); }
  Status restore(const std::string&) override { return failed("scripted"); }

 private:
  Status next() {
    std::fill(logits_.begin(), logits_.end(), 0.0f);
    const size_t at = tokens_.size() - prompt_;
    if (at < script.size()) logits_[script[at]] = 1;
    if (tempting >= 0) logits_[tempting] = 2;
    best_ = candidates_of(logits_);
    return ok_status();
  }

  int64_t n_ctx_;
  Reuse reuse_;
  size_t prompt_ = 0;
  std::vector<int32_t> tokens_;
  std::vector<float> logits_;
  Candidates best_;
};

class GenerateTest : public testing::Test {
 protected:
  text::Tokenizer tokenizer = *text::Tokenizer::create(text::tiny_vocab());
  text::ChatTemplate chat = *text::ChatTemplate::create(tokenizer);
  Generator generator{tokenizer, chat.controls()};
  ScriptedSession session{tokenizer.vocab_size() + 3, 200};
  AnswerOptions greedy = {{.temperature = 0}, 0};

  std::vector<int32_t> ids(std::string_view text) { return tokenizer.encode_special(text); }
  Answer answer(std::string_view prompt, const AnswerEvents& events = {}) {
    auto a = generator.answer(session, ids(prompt), greedy, events);
    EXPECT_TRUE(a.ok()) << a.status().message();
    return a.ok() ? *a : Answer();
  }
};

constexpr std::string_view kPrompt = "<｜begin▁of▁sentence｜><｜User｜>hi<｜Assistant｜>";

TEST_F(GenerateTest, SeparatesReasoningFromTheAnswerAndStopsAtTheEnd) {
  session.script = ids("why</think>because<｜end▁of▁sentence｜>never");
  std::string reasoning, content;
  AnswerEvents events;
  events.reasoning = [&](std::string_view s) { reasoning += s; };
  events.content = [&](std::string_view s) { content += s; };
  const Answer a = answer(std::string(kPrompt) + "<think>", events);
  EXPECT_EQ(a.reasoning, "why");
  EXPECT_EQ(a.content, "because");
  EXPECT_EQ(reasoning, "why");
  EXPECT_EQ(content, "because");
  EXPECT_EQ(a.finish, Finish::kStop);
  EXPECT_EQ(a.ids, ids("why</think>because<｜end▁of▁sentence｜>"));
  EXPECT_EQ(a.prompt_tokens, int64_t(ids(kPrompt).size()) + 1);
}

TEST_F(GenerateTest, StopsAtTheTokenLimitAndAtTheEndOfTheContext) {
  session.script.assign(500, ids("x").front());
  greedy.max_tokens = 7;
  Answer a = answer(std::string(kPrompt) + "</think>");
  EXPECT_EQ(a.finish, Finish::kLength);
  EXPECT_EQ(a.ids.size(), 7u);
  EXPECT_EQ(a.content, "xxxxxxx");

  greedy.max_tokens = 0;
  a = answer(std::string(kPrompt) + "</think>");
  EXPECT_EQ(a.finish, Finish::kLength);
  EXPECT_TRUE(is_full(session));
  EXPECT_EQ(int64_t(a.ids.size()) + a.prompt_tokens, session.n_ctx() + 1)
      << "the last token needs no place in the context";
}

TEST_F(GenerateTest, RefusesAPromptLongerThanTheContext) {
  const std::vector<int32_t> prompt(201, ids("x").front());
  const auto a = generator.answer(session, prompt, greedy, {});
  ASSERT_FALSE(a.ok());
  EXPECT_EQ(a.status().code(), Code::kUsage);
  EXPECT_NE(a.status().message().find("201 tokens, the context holds 200"), std::string::npos);
  EXPECT_NE(a.status().message().find("--ctx"), std::string::npos);
  EXPECT_FALSE(generator.answer(session, {}, greedy, {}).ok());
}

TEST_F(GenerateTest, CancelsWhileWritingAndWhileReading) {
  session.script = ids("one two three");
  int n = 0;
  AnswerEvents events;
  events.cancelled = [&] { return ++n > 2; };
  Answer a = answer(std::string(kPrompt) + "<think>", events);
  EXPECT_EQ(a.finish, Finish::kCancelled);
  EXPECT_EQ(a.ids.size(), 2u);
  EXPECT_TRUE(a.in_reasoning);

  events.cancelled = [] { return true; };
  a = answer(std::string(kPrompt) + "</think>", events);
  EXPECT_EQ(a.finish, Finish::kCancelled);
  EXPECT_TRUE(a.ids.empty());
}

TEST_F(GenerateTest, ControlTokensAndRowsWithoutATokenAreNeverSampled) {
  session.script = ids("ok<｜end▁of▁sentence｜>");
  for (int32_t id : {tokenizer.bos(), tokenizer.pad(), tokenizer.id_of("<｜latest_reminder｜>"),
                     tokenizer.id_of("<｜fim▁hole｜>"), tokenizer.vocab_size() + 1}) {
    session.tempting = id;
    const Answer a = answer(std::string(kPrompt) + "</think>");
    EXPECT_EQ(a.content, "ok") << "token " << id;
  }
}

TEST_F(GenerateTest, ReportsToolCalls) {
  session.script =
      ids("Let me see.\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"now\">\n"
          "<｜DSML｜parameter name=\"zone\" string=\"true\">UTC</｜DSML｜parameter>\n"
          "</｜DSML｜invoke>\n</｜DSML｜tool_calls><｜end▁of▁sentence｜>");
  ScriptedSession wide(tokenizer.vocab_size(), 1000);
  wide.script = session.script;
  const auto a = generator.answer(wide, ids(std::string(kPrompt) + "</think>"), greedy, {});
  ASSERT_TRUE(a.ok());
  EXPECT_EQ(a->content, "Let me see.");
  EXPECT_EQ(a->finish, Finish::kToolCalls);
  ASSERT_EQ(a->tool_calls.size(), 1u);
  EXPECT_EQ(a->tool_calls[0].name, "now");
  EXPECT_EQ(a->tool_calls[0].arguments, "{\"zone\": \"UTC\"}");
  Answer shown = *a;
  EXPECT_TRUE(tool_calls_text(chat.controls(), shown).starts_with("\n\n<｜DSML｜tool_calls>"));
  shown.content = "";
  EXPECT_TRUE(tool_calls_text(chat.controls(), shown).starts_with("<｜DSML｜tool_calls>"));
  shown.tool_calls.clear();
  EXPECT_EQ(tool_calls_text(chat.controls(), shown), "");
}

TEST_F(GenerateTest, EachPromptOfAConversationExtendsWhatTheSessionHolds) {
  text::RenderOptions options;
  options.thinking = true;
  options.effort = text::Effort::kMax;
  Conversation talk(tokenizer, chat, options, "Be brief.");
  session.script = ids("a b</think>c<｜end▁of▁sentence｜>");
  ScriptedSession wide(tokenizer.vocab_size(), 5000);
  wide.script = session.script;
  for (int turn = 0; turn < 3; turn++) {
    auto prompt = talk.prompt_for("turn");
    ASSERT_TRUE(prompt.ok());
    const size_t held = wide.tokens().size();
    const auto a = generator.answer(wide, *prompt, greedy, {});
    ASSERT_TRUE(a.ok());
    EXPECT_EQ(a->reuse.n_tokens, int64_t(held)) << "turn " << turn;
    talk.add("turn", *prompt, *a);
    talk.set_thinking(true);
  }
  EXPECT_EQ(talk.n_messages(), 7u);
  EXPECT_EQ(wide.n_marks, 3) << "the end of every turn is kept";
}

TEST_F(GenerateTest, AConversationClosesWhatWasCutShort) {
  Conversation talk(tokenizer, chat, {.thinking = true, .tools = {}}, "");
  auto prompt = *talk.prompt_for("q");
  Answer cut;
  cut.ids = ids("half");
  cut.reasoning = "half";
  cut.in_reasoning = true;
  talk.add("q", prompt, cut);
  talk.set_thinking(false);
  EXPECT_EQ(tokenizer.decode(*talk.prompt_for("next")),
            "<｜begin▁of▁sentence｜><｜User｜>q<｜Assistant｜><think>half</think>"
            "<｜end▁of▁sentence｜><｜User｜>next<｜Assistant｜></think>");
  Answer role;
  role.ids = ids("done<｜User｜>");
  prompt = *talk.prompt_for("next");
  talk.add("next", prompt, role);
  EXPECT_TRUE(
      tokenizer.decode(*talk.prompt_for("x"))
          .ends_with("</think>done<｜end▁of▁sentence｜><｜User｜>x<｜Assistant｜></think>"));
  Answer nothing;
  const int64_t before = talk.n_tokens();
  talk.add("y", *talk.prompt_for("y"), nothing);
  EXPECT_EQ(talk.n_tokens(), before);
}

TEST_F(GenerateTest, AConversationSurvivesSaveAndLoad) {
  Conversation talk(tokenizer, chat, {}, "Be brief.");
  Answer a;
  a.content = "\"c\"\n";
  a.ids = ids("\"c\"\n<｜end▁of▁sentence｜>");
  talk.add("q", *talk.prompt_for("q"), a);
  Conversation other(tokenizer, chat, {}, "");
  ASSERT_TRUE(other.load_json(talk.to_json()).ok());
  EXPECT_EQ(other.to_json(), talk.to_json());
  EXPECT_EQ(*other.prompt_for("n"), *talk.prompt_for("n"));
  // Tokens that were sampled stay, unless the messages say something else.
  Answer odd;
  odd.content = "hello";
  for (const char* piece : {"h", "e", "l", "l", "o"}) odd.ids.push_back(tokenizer.encode(piece)[0]);
  odd.ids.push_back(tokenizer.eos());
  talk.add("r", *talk.prompt_for("r"), odd);
  ASSERT_TRUE(other.load_json(talk.to_json()).ok());
  EXPECT_EQ(*other.prompt_for("n"), *talk.prompt_for("n"));
  std::string edited = talk.to_json();
  edited.replace(edited.find("hello"), 5, "world");
  ASSERT_TRUE(other.load_json(edited).ok());
  EXPECT_NE(tokenizer.decode(*other.prompt_for("n")).find("world"), std::string::npos);
  ASSERT_TRUE(other.load_json(talk.to_json()).ok());
  for (const char* bad : {"", "[]", "{\"messages\": 3}", "{\"messages\": [{\"role\": \"user\"}]}",
                          "{\"messages\": [{\"role\": \"tool\", \"content\": \"x\"}]}"}) {
    EXPECT_EQ(other.load_json(bad).code(), Code::kBadInput) << bad;
  }
  EXPECT_EQ(other.to_json(), talk.to_json()) << "a bad file changes nothing";
}

TEST(Setup, ParsesIds) {
  EXPECT_EQ(*parse_ids(" 1, 2\n[3]4 ", 5), (std::vector<int32_t>{1, 2, 3, 4}));
  EXPECT_TRUE(parse_ids("", 5)->empty());
  for (const char* bad : {"5", "-1", "1.5", "x", "99999999999999999999"}) {
    EXPECT_EQ(parse_ids(bad, 5).status().code(), Code::kBadInput) << bad;
  }
}

TEST(Setup, FormatsBytes) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(1536), "1.50 KiB");
  EXPECT_EQ(format_bytes(86720111488), "80.76 GiB");
}

TEST(Terminal, DropsWhatCouldSteerATerminal) {
  EXPECT_EQ(printable("a\033[31mb\a\r\n\tc\x7F"), "a[31mb\n\tc");
  EXPECT_EQ(printable("caf\u00e9 \u0085\u009b31m \u4f60\u597d"), "caf\u00e9 31m \u4f60\u597d");
}

}  // namespace
}  // namespace narwhal::cli
