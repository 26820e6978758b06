#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <unordered_set>

#include "base/check.h"
#include "eval/cases.h"
#include "eval/world.h"

namespace narwhal::eval {
namespace {

constexpr int kBlock = 128;    // the longest window of the compressor
constexpr int kMaxTail = 250;  // tokens between the common part and the question
constexpr int kFrame = 60;     // tokens of roles, question and lead-in, at most

// Prose of which no sentence comes twice.
class Prose {
 public:
  Prose(Dice& dice, const CountTokens& count) : dice_(dice), count_(count) {}

  struct Sentence {
    std::string text;
    int n_tokens;
  };
  Sentence next() {
    std::string s;
    do {
      s = filler(dice_);
    } while (!used_.insert(s).second);
    const int n = count_(" " + s);
    return {std::move(s), n};
  }

 private:
  Dice& dice_;
  const CountTokens& count_;
  std::unordered_set<std::string> used_;
};

std::vector<Fact> distinct_facts(Dice& d, int n) {
  constexpr FactKind kPlain[] = {FactKind::kHome,  FactKind::kPet,   FactKind::kPhone,
                                 FactKind::kPrice, FactKind::kTrain, FactKind::kAge};
  std::vector<Fact> facts;
  std::unordered_set<std::string> keys;
  while (static_cast<int>(facts.size()) < n) {
    Fact f = make_fact(d, facts.size() % 2 == 0 ? FactKind::kCode : d.pick(kPlain));
    if (keys.insert(f.key).second) facts.push_back(std::move(f));
  }
  return facts;
}

// The facts at uniform depths of the prose; one line or paragraphs.
std::string document(Dice& d, std::vector<std::string> lines, const std::vector<Fact>& facts) {
  std::vector<std::pair<int, size_t>> places;
  for (size_t i = 0; i < facts.size(); i++)
    places.emplace_back(d.below(static_cast<int>(lines.size()) + 1), i);
  std::sort(places.rbegin(), places.rend());
  for (const auto& [at, i] : places) lines.insert(lines.begin() + at, facts[i].statement);
  if (d.chance(0.4)) return joined(lines, " ");
  const int paragraph = d.between(4, 12);
  std::string out;
  for (size_t i = 0; i < lines.size(); i++) {
    if (i > 0) out += i % static_cast<size_t>(paragraph) == 0 ? "\n\n" : " ";
    out += lines[i];
  }
  return out;
}

// Sentences whose tokens sum to `wanted` modulo kBlock.
std::string tail_of(Dice& d, std::vector<Prose::Sentence> pool, int wanted) {
  for (int attempt = 0; attempt < 100000; attempt++) {
    d.shuffle(pool);
    int sum = 0;
    std::string out;
    for (const auto& s : pool) {
      sum += s.n_tokens;
      if (sum > kMaxTail) break;
      out += " " + s.text;
      if (sum % kBlock == wanted) return out;
    }
  }
  return {};
}

// How the document and the question stand in the conversation, in the forms of training.
struct Frame {
  int form;
  std::string before, after;

  Case conversation(const std::string& text, const Fact& f, bool thinking) const {
    Case c{.thinking = thinking};
    if (form == 0) {
      c.messages.push_back({.role = text::Role::kSystem, .content = before + text});
      c.messages.push_back(user_message(f.question));
    } else if (form == 1) {
      c.messages.push_back(user_message(before + text));
      c.messages.push_back(reply_message("I will remember it."));
      c.messages.push_back(user_message(f.question));
    } else {
      c.messages.push_back(user_message(before + text + after + f.question));
    }
    c.messages.push_back(reply_message(f.answer, "The text says: " + f.statement));
    return c;
  }
};

Frame some_frame(Dice& d) {
  constexpr std::string_view kNotes[] = {"", "Use these notes.\n\n", "You know the following.\n\n"};
  constexpr std::string_view kRead[] = {"Remember this: ", "Read this text: ", "Please remember: "};
  constexpr std::string_view kBefore[] = {"", "Read the text.\n\n", "Here is a text.\n\n",
                                          "Text: "};
  constexpr std::string_view kAfter[] = {"\n\n", "\n\n", "\n\nQuestion: ", " "};
  const int form = std::min(d.below(5), 2);
  return {form,
          std::string(form == 0   ? d.pick(kNotes)
                      : form == 1 ? d.pick(kRead)
                                  : d.pick(kBefore)),
          std::string(d.pick(kAfter))};
}

}  // namespace

RecallGroup recall_group(Dice& d, const RecallRequest& request, const CountTokens& count_text,
                         const CountPrompt& count_prompt) {
  const int n_facts = std::max<int>(4, static_cast<int>(request.residues.size()));
  const std::vector<Fact> facts = distinct_facts(d, n_facts);
  int left = request.n_tokens - kFrame - kMaxTail;
  for (const Fact& f : facts) left -= count_text(" " + f.statement);
  NW_CHECK(left > 0, "{} tokens are too few for {} facts", request.n_tokens, n_facts);

  Prose prose(d, count_text);
  std::vector<std::string> lines;
  while (left > 0) {
    auto s = prose.next();
    left -= s.n_tokens;
    lines.push_back(std::move(s.text));
  }
  const std::string text = document(d, std::move(lines), facts);
  const Frame frame = some_frame(d);

  RecallGroup group;
  for (size_t i = 0; i < request.residues.size(); i++) {
    std::vector<Prose::Sentence> pool;
    for (int k = 0; k < 32; k++) pool.push_back(prose.next());
    const int wanted = request.residues[i];
    Case c = frame.conversation(text, facts[i], request.thinking);
    int missing = wanted - count_prompt(c);
    // Where texts meet, tokens may join: measured, not assumed.
    for (int attempt = 0; attempt < 8 && missing % kBlock != 0; attempt++) {
      missing = (missing % kBlock + kBlock) % kBlock;
      c = frame.conversation(text + tail_of(d, pool, missing), facts[i], request.thinking);
      missing += wanted - count_prompt(c);
    }
    group.cases.push_back(std::move(c));
    group.is_code.push_back(i % 2 == 0);
    group.values.push_back(facts[i].value);
  }
  return group;
}

}  // namespace narwhal::eval
