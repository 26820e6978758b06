// Puts cases to a model and says which replies are right.
//
//   NW_ASSIGN(Examiner examiner, Examiner::create(*engine));
//   NW_ASSIGN(auto verdicts, examiner.examine(group));     // one per case
//
// A reply is right when it is the reference, token for token, its end included, at temperature 0.
// It is read rather than generated: the reference is appended after the prompt, and each of its
// tokens must be the model's first choice at its place, which holds exactly when generating would
// have given it. That costs one pass instead of one per token. What cases of a group have in common
// at their beginning is computed once.
//
// One thread.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "eval/cases.h"
#include "narwhal/engine.h"
#include "text/chat.h"

namespace narwhal::eval {

struct Verdict {
  bool right = false;
  int64_t n_prompt = 0;   // tokens before the last reply
  std::string miss = {};  // of a wrong reply: the reference up to the fault, and what came instead
};

class Examiner {
 public:
  // Sessions that the engine must be opened for.
  static constexpr int kSessions = 10;

  // The engine must outlive the examiner. kBadInput when it has no tokenizer.
  static Result<Examiner> create(Engine& engine);

  Result<std::vector<Verdict>> examine(const Group& group);

  // Generates answers to open questions: right when the answer ends by itself within `max_tokens`,
  // closes its reasoning exactly once in thinking mode and never otherwise, holds no other control
  // token, and contains what it must.
  Result<std::vector<Verdict>> examine_open(std::span<const OpenQuestion> questions,
                                            int max_tokens);

  // Tokens of a whole conversation, its replies included.
  Result<std::vector<int32_t>> conversation(const Case& c) const { return ids(c.messages, c); }

  // For the generators: tokens of a text, and of the prompt of a case.
  int count_text(const std::string& text) const;
  int count_prompt(const Case& c) const;

 private:
  struct Turn {
    std::vector<int32_t> prompt, reply;
  };
  Examiner(Engine& engine, text::ChatTemplate chat) : engine_(&engine), chat_(std::move(chat)) {}

  Result<std::vector<int32_t>> ids(std::vector<text::Message> messages, const Case& c) const;
  Result<std::vector<Turn>> turns(const Case& c) const;
  // Empty when the reply is right, else Verdict::miss.
  Result<std::string> miss_of(Session& session, const Turn& turn) const;
  bool ends_well(const OpenQuestion& question, std::span<const int32_t> answer) const;

  Engine* engine_;
  text::ChatTemplate chat_;
};

}  // namespace narwhal::eval
