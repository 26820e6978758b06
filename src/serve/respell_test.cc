#include "serve/respell.h"

#include <gtest/gtest.h>

#include <random>

#include "text/test_vocab.h"

namespace narwhal::serve {
namespace {

// "a" to "c" and their pairs, so that most texts can be spelled in many ways.
const text::Tokenizer& tokenizer() {
  static const text::Tokenizer t = [] {
    text::Vocab v = text::vocab_from_merges("a b\nb c\nc a\nab c\n");
    text::add_control_token(v, "<end>");
    return *text::Tokenizer::create(v);
  }();
  return t;
}
int32_t end_id() { return tokenizer().id_of("<end>"); }

std::vector<int32_t> spelled(std::initializer_list<const char*> pieces) {
  std::vector<int32_t> ids;
  for (const std::string_view piece : pieces) {
    if (piece == "<end>") {
      ids.push_back(end_id());
      continue;
    }
    const auto one = tokenizer().encode(piece);
    EXPECT_EQ(one.size(), 1u) << piece;
    ids.insert(ids.end(), one.begin(), one.end());
  }
  return ids;
}

std::vector<int32_t> respelled(const std::vector<int32_t>& state,
                               const std::vector<int32_t>& prompt) {
  return respell(tokenizer(), state, prompt, spelled_prefix(tokenizer(), state, prompt));
}

TEST(Respell, TheStatesTokensStandWhereItsTextDoes) {
  const auto state = spelled({"a", "b", "c", "<end>"}), prompt = spelled({"abc", "<end>", "ca"});
  EXPECT_EQ(respelled(state, prompt), spelled({"a", "b", "c", "<end>", "ca"}));
}

TEST(Respell, AStateMayEndInsideAText) {
  EXPECT_EQ(respelled(spelled({"a", "b"}), spelled({"abc", "a", "<end>"})),
            spelled({"a", "b", "ca", "<end>"}))
      << "the rest of the text is tokenised anew";
}

TEST(Respell, GoesBackToTheLastControlWhereTextsPart) {
  const auto state = spelled({"a", "b", "<end>", "b", "c", "<end>"});
  const Spelling s = spelled_prefix(tokenizer(), state, spelled({"ab", "<end>", "b", "a"}));
  EXPECT_EQ(s.n_state, 3);
  EXPECT_EQ(s.n_prompt, 2);
  EXPECT_EQ(s.n_bytes, 0u);
  EXPECT_EQ(spelled_prefix(tokenizer(), state, spelled({"b"})).n_state, 0);
}

TEST(Respell, TextNeverEqualsAControl) {
  const auto text = tokenizer().encode("<end>");
  EXPECT_EQ(spelled_prefix(tokenizer(), spelled({"<end>"}), text).n_state, 0);
  EXPECT_EQ(spelled_prefix(tokenizer(), text, spelled({"<end>"})).n_state, 0);
  EXPECT_NE(text_key(tokenizer(), text), text_key(tokenizer(), spelled({"<end>"})));
  std::vector<int32_t> raw;  // the bytes of a control's key, as text
  for (const unsigned char c : text_key(tokenizer(), spelled({"<end>"})))
    for (const int32_t id : tokenizer().encode(std::string(1, static_cast<char>(c))))
      raw.push_back(id);
  EXPECT_NE(text_key(tokenizer(), raw), text_key(tokenizer(), spelled({"<end>"})));
}

// Whatever the spellings, the text stays, and a state that spells all of a beginning is used whole.
TEST(Respell, KeepsTheText) {
  std::mt19937 rng(3);
  const auto below = [&](size_t n) { return rng() % n; };
  const char* pieces[] = {"a", "b", "c", "ab", "bc", "ca", "abc", "<end>"};
  for (int i = 0; i < 20000; i++) {
    std::vector<int32_t> state, prompt;
    const size_t n = 1 + below(8);
    for (size_t k = 0; k < n; k++) {
      const auto add = spelled({pieces[below(8)]});
      state.insert(state.end(), add.begin(), add.end());
    }
    std::string text = tokenizer().decode(state);
    prompt = tokenizer().encode_special(text);
    if (below(2)) {
      const auto more = spelled({pieces[below(8)], pieces[below(8)]});
      text += tokenizer().decode(more);
      prompt = tokenizer().encode_special(text);
    }
    const auto out = respelled(state, prompt);
    ASSERT_EQ(text_key(tokenizer(), out), text_key(tokenizer(), prompt));
    ASSERT_GE(out.size(), state.size());
    ASSERT_TRUE(std::equal(state.begin(), state.end(), out.begin()));
    ASSERT_TRUE(text_key(tokenizer(), prompt).starts_with(text_key(tokenizer(), state)));
    // A state that parts from the prompt somewhere is used up to there at most.
    auto other = state;
    other[below(n)] = spelled({pieces[below(8)]})[0];
    ASSERT_EQ(text_key(tokenizer(), respelled(other, prompt)), text_key(tokenizer(), prompt));
  }
}

}  // namespace
}  // namespace narwhal::serve
