#include "eval/examiner.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "base/prefix.h"
#include "text/tokenizer.h"

namespace narwhal::eval {
namespace {

constexpr int64_t kWorthSharing = 64;  // tokens

int32_t first_choice(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

Result<Examiner> Examiner::create(Engine& engine) {
  if (!engine.tokenizer())
    return bad_input(fmt::format("{}: the file has no tokenizer; convert it again with --tokenizer",
                                 engine.info().path));
  NW_ASSIGN(auto chat, text::ChatTemplate::create(*engine.tokenizer()));
  return Examiner(engine, std::move(chat));
}

Result<std::vector<int32_t>> Examiner::ids(std::vector<text::Message> messages,
                                           const Case& c) const {
  text::RenderOptions options;
  options.thinking = c.thinking;
  options.tools = c.tools;
  NW_ASSIGN(const text::Prompt prompt, chat_.render(std::move(messages), options));
  return text::encode_prompt(*engine_->tokenizer(), prompt);
}

Result<std::vector<Examiner::Turn>> Examiner::turns(const Case& c) const {
  std::vector<Turn> turns;
  for (size_t i = 0; i < c.messages.size(); i++) {
    const bool last = i + 1 == c.messages.size();
    if (c.messages[i].role != text::Role::kAssistant || !(c.every_turn || last)) continue;
    const auto at = c.messages.begin() + static_cast<std::ptrdiff_t>(i);
    Turn turn;
    NW_ASSIGN(turn.prompt, ids({c.messages.begin(), at}, c));
    NW_ASSIGN(turn.reply, ids({c.messages.begin(), at + 1}, c));
    const int64_t n = std::ssize(turn.prompt);
    NW_CHECK(common_prefix(turn.prompt, turn.reply) == n, "a reply changed its prompt");
    turn.reply.erase(turn.reply.begin(), turn.reply.begin() + n);
    turns.push_back(std::move(turn));
  }
  return turns;
}

Result<std::string> Examiner::miss_of(Session& session, const Turn& turn) const {
  const text::Tokenizer& tokenizer = *engine_->tokenizer();
  const std::span<const int32_t> reply(turn.reply);
  std::string miss;
  const auto compare = [&](size_t next, std::span<const float> logits) {
    const int32_t choice = first_choice(logits);
    if (choice == reply[next] || !miss.empty()) return;
    miss = fmt::format("{}[{} instead of {}]", tokenizer.decode(reply.first(next)),
                       tokenizer.bytes(choice), tokenizer.bytes(reply[next]));
  };
  NW_TRY(session.sync(turn.prompt));
  compare(0, session.logits());
  if (!miss.empty()) return miss;
  NW_TRY(session.append(reply.first(reply.size() - 1), {},
                        [&](int64_t position, std::span<const float> logits) {
                          compare(static_cast<size_t>(position) + 1 - turn.prompt.size(), logits);
                        }));
  return miss;
}

Result<std::vector<Verdict>> Examiner::examine(const Group& group) {
  std::vector<std::vector<Turn>> all;
  for (const Case& c : group) {
    NW_ASSIGN(auto t, turns(c));
    NW_CHECK(!t.empty() && !t[0].prompt.empty(), "a case without a reply");
    all.push_back(std::move(t));
  }
  int64_t shared = all.empty() ? 0 : std::ssize(all[0][0].prompt) - 1;
  for (const auto& t : all) shared = std::min(shared, common_prefix(t[0].prompt, all[0][0].prompt));

  std::unique_ptr<Session> base;
  if (all.size() > 1 && shared >= kWorthSharing) {
    NW_ASSIGN(base, engine_->new_session());
    NW_TRY(base->sync(std::span(all[0][0].prompt).first(shared)));
  }
  std::vector<Verdict> verdicts;
  for (const auto& t : all) {
    std::unique_ptr<Session> session;
    if (base) {
      NW_ASSIGN(session, base->fork());
    } else {
      NW_ASSIGN(session, engine_->new_session());
    }
    Verdict v{.right = true, .n_prompt = static_cast<int64_t>(t.back().prompt.size())};
    for (size_t i = 0; i < t.size() && v.right; i++) {
      NW_ASSIGN(v.miss, miss_of(*session, t[i]));
      v.right = v.miss.empty();
    }
    verdicts.push_back(v);
  }
  return verdicts;
}

bool Examiner::ends_well(const OpenQuestion& question, std::span<const int32_t> answer) const {
  const text::Tokenizer& tokenizer = *engine_->tokenizer();
  if (answer.empty() || answer.back() != tokenizer.eos()) return false;
  const auto body = answer.first(answer.size() - 1);
  const int32_t closer = chat_.controls().end_think.id;
  const auto is_stray = [&](int32_t id) { return tokenizer.is_control(id) && id != closer; };
  return std::count(body.begin(), body.end(), closer) == (question.prompt.thinking ? 1 : 0) &&
         std::none_of(body.begin(), body.end(), is_stray) &&
         tokenizer.decode(body).find(question.must_contain) != std::string::npos;
}

Result<std::vector<Verdict>> Examiner::examine_open(std::span<const OpenQuestion> questions,
                                                    int max_tokens) {
  struct Row {
    std::unique_ptr<Session> session;
    std::vector<int32_t> answer;
    Verdict verdict;
  };
  std::vector<Verdict> verdicts;
  while (!questions.empty()) {
    std::vector<Row> rows;
    for (const OpenQuestion& q : questions.first(std::min<size_t>(questions.size(), kSessions))) {
      Row row;
      NW_ASSIGN(const auto prompt, ids(q.prompt.messages, q.prompt));
      NW_ASSIGN(row.session, engine_->new_session());
      NW_TRY(row.session->sync(prompt));
      row.verdict.n_prompt = static_cast<int64_t>(prompt.size());
      rows.push_back(std::move(row));
    }
    for (int n = 0; n < max_tokens; n++) {
      std::vector<Engine::Append> parts;
      for (Row& row : rows) {
        if (!row.answer.empty() && row.answer.back() == engine_->tokenizer()->eos()) continue;
        row.answer.push_back(row.session->candidates().ids[0]);
        parts.push_back({row.session.get(), std::span(row.answer).last(1), true});
      }
      if (parts.empty()) break;
      NW_TRY(engine_->step(parts));
    }
    for (size_t i = 0; i < rows.size(); i++) {
      Verdict& v = rows[i].verdict;
      v.right = ends_well(questions[i], rows[i].answer);
      if (!v.right) v.miss = engine_->tokenizer()->decode(rows[i].answer);
      verdicts.push_back(rows[i].verdict);
    }
    questions = questions.subspan(rows.size());
  }
  return verdicts;
}

int Examiner::count_text(const std::string& text) const {
  return static_cast<int>(engine_->tokenizer()->encode(text).size());
}

int Examiner::count_prompt(const Case& c) const {
  auto messages = c.messages;
  messages.pop_back();
  const auto prompt = ids(std::move(messages), c);
  NW_CHECK(prompt.ok(), "{}", prompt.status().message());
  return static_cast<int>((*prompt).size());
}

}  // namespace narwhal::eval
