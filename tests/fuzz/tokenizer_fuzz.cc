// Any bytes: the pieces are the text, decoding gives it back, plain encoding yields no control, and
// streamed UTF-8 is the same however it is cut. The same bytes are also read as a tokenizer.json.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "base/file.h"
#include "text/detokenizer.h"
#include "text/splitter.h"
#include "text/test_vocab.h"
#include "text/tokenizer.h"

namespace {

void expect(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace narwhal::text;
  static const Tokenizer tokenizer = *Tokenizer::create(tiny_vocab());
  const std::string text(reinterpret_cast<const char*>(data), size);

  size_t end = 0;
  while (end < text.size()) {
    const size_t next = piece_end(text, end);
    expect(next > end && next <= text.size());
    end = next;
  }
  const auto ids = tokenizer.encode(text);
  for (const int32_t id : ids) expect(!tokenizer.is_control(id));
  expect(tokenizer.decode(ids) == text);
  expect(tokenizer.decode(tokenizer.encode_special(text)) == text);

  Detokenizer stream;
  std::string shown;
  for (const int32_t id : ids) shown += stream.push(tokenizer.bytes(id));
  shown += stream.finish();
  expect(narwhal::check_utf8(shown).ok());
  expect(shown == to_utf8(text));

  if (auto vocab = vocab_from_tokenizer_json(text); vocab.ok())
    (void)Tokenizer::create(*std::move(vocab)).ok();
  return 0;
}
