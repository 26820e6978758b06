#include "serve/respell.h"

#include <algorithm>

namespace narwhal::serve {

Spelling spelled_prefix(const text::Tokenizer& tokenizer, std::span<const int32_t> state,
                        std::span<const int32_t> prompt) {
  Spelling best;
  size_t i = 0, j = 0, used = 0;  // of the state, of the prompt, bytes of prompt[j]
  for (; i < state.size(); i++) {
    if (j == prompt.size()) return best;
    if (tokenizer.is_control(state[i])) {
      if (used > 0 || prompt[j] != state[i]) return best;
      j++;
      best = {static_cast<int64_t>(i) + 1, static_cast<int64_t>(j), 0};
      continue;
    }
    for (std::string_view left = tokenizer.bytes(state[i]); !left.empty();) {
      if (j == prompt.size() || tokenizer.is_control(prompt[j])) return best;
      const std::string_view other = tokenizer.bytes(prompt[j]).substr(used);
      const size_t n = std::min(left.size(), other.size());
      if (left.substr(0, n) != other.substr(0, n)) return best;
      left.remove_prefix(n);
      used = n < other.size() ? used + n : 0;
      j += n == other.size();
    }
  }
  return {static_cast<int64_t>(i), static_cast<int64_t>(j), used};
}

std::vector<int32_t> respell(const text::Tokenizer& tokenizer, std::span<const int32_t> state,
                             std::span<const int32_t> prompt, const Spelling& spelling) {
  std::vector<int32_t> out(state.begin(), state.begin() + spelling.n_state);
  auto rest = prompt.subspan(static_cast<size_t>(spelling.n_prompt));
  if (spelling.n_bytes > 0) {
    const auto end = std::find_if(rest.begin(), rest.end(),
                                  [&](int32_t id) { return tokenizer.is_control(id); });
    const auto run = rest.first(static_cast<size_t>(end - rest.begin()));
    const std::vector<int32_t> ids =
        tokenizer.encode(tokenizer.decode(run).substr(spelling.n_bytes));
    out.insert(out.end(), ids.begin(), ids.end());
    rest = rest.subspan(run.size());
  }
  out.insert(out.end(), rest.begin(), rest.end());
  return out;
}

// 0xFF, which UTF-8 does not use, stands before the id of a control, and twice for itself.
std::string text_key(const text::Tokenizer& tokenizer, std::span<const int32_t> tokens) {
  std::string key;
  key.reserve(tokens.size() * 5);
  for (const int32_t id : tokens) {
    if (tokenizer.is_control(id)) {
      key += '\xFF';
      for (const int shift : {16, 8, 0}) key += static_cast<char>((id >> shift) & 0xFF);
      continue;
    }
    for (const char c : tokenizer.bytes(id)) {
      key += c;
      if (c == '\xFF') key += c;
    }
  }
  return key;
}

}  // namespace narwhal::serve
