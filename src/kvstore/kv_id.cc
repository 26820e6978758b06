#include "kvstore/kv_id.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <array>
#include <bit>

namespace narwhal {
namespace {

static_assert(std::endian::native == std::endian::little, "ids and files are little-endian");

// A link: what it is, where it hangs, what it adds. The first word keeps kinds apart.
KvId link(uint64_t kind, uint64_t a, uint64_t b, const void* data, size_t n_bytes) {
  const XXH128_hash_t content = XXH3_128bits(data, n_bytes);
  const std::array<uint64_t, 5> words = {kind, a, b, content.high64, content.low64};
  const XXH128_hash_t h = XXH3_128bits(words.data(), sizeof words);
  return {h.high64, h.low64};
}

}  // namespace

std::string KvId::hex() const { return fmt::format("{:016x}{:016x}", high, low); }

std::optional<KvId> KvId::from_hex(std::string_view text) {
  if (text.size() != 32) return std::nullopt;
  std::array<uint64_t, 2> words{};
  for (size_t i = 0; i < text.size(); i++) {
    const char c = text[i];
    const bool digit = c >= '0' && c <= '9';
    if (!digit && !(c >= 'a' && c <= 'f')) return std::nullopt;
    words[i / 16] = words[i / 16] << 4 | static_cast<uint64_t>(digit ? c - '0' : c - 'a' + 10);
  }
  return KvId{words[0], words[1]};
}

KvId chain_root(uint64_t fingerprint, uint32_t block_tokens) {
  return link(1, fingerprint, block_tokens, nullptr, 0);
}

KvId block_id(const KvId& parent, std::span<const int32_t> tokens) {
  return link(2, parent.high, parent.low, tokens.data(), tokens.size_bytes());
}

KvId frontier_id(const KvId& parent, std::span<const int32_t> tail) {
  return link(3, parent.high, parent.low, tail.data(), tail.size_bytes());
}

}  // namespace narwhal
