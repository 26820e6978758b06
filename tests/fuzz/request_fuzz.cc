// Any body, to every API: it is refused in one sentence, or it becomes tokens of the vocabulary in
// which text has not turned into structure.
//
// Input: the first byte chooses the API, the rest is the body.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/json.h"
#include "serve/api/api.h"
#include "serve/prompter.h"
#include "text/test_vocab.h"

namespace {

using namespace narwhal;
using namespace narwhal::serve;

void expect(bool condition) {
  if (!condition) std::abort();
}

struct World {
  text::Tokenizer tokenizer = *text::Tokenizer::create(text::tiny_vocab());
  text::ChatTemplate chat = *text::ChatTemplate::create(tokenizer);
  TurnMemory memory;
  Prompter prompter{tokenizer, chat, text::PromptProfile::k0731, memory};
  ApiContext context;
  World() {
    context.n_ctx = 4096;
    context.n_vocab = tokenizer.vocab_size();
    context.chat = &chat;
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static World world;
  if (size == 0) return 0;
  const auto body = Json::parse({reinterpret_cast<const char*>(data) + 1, size - 1});
  if (!body.ok() || !body->is_object()) return 0;
  constexpr decltype(&parse_chat) kParse[] = {parse_chat, parse_completions, parse_messages,
                                              parse_responses};
  auto parsed = kParse[data[0] % 4](*body, world.context);
  const auto check_refusal = [](const Status& status) {
    expect(!status.message().empty());
    const ApiError error = error_of(status);
    expect(Json::parse(openai_error(error)).ok() && Json::parse(anthropic_error(error)).ok());
  };
  if (!parsed.ok()) {
    check_refusal(parsed.status());
    return 0;
  }
  const auto job = world.prompter.job(std::move(parsed->request));
  if (!job.ok()) {
    check_refusal(job.status());
    return 0;
  }
  expect(!job->tokens.empty());
  for (int32_t id : job->tokens) expect(id >= 0 && id < world.tokenizer.vocab_size());
  return 0;
}
