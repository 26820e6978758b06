// KvId: the name of a stored piece, a 128-bit hash of everything that determines its content.
//
//   chain_root(fingerprint, block_tokens)            before the first token
//   next = block_id(parent, tokens of the block)     one link per whole block
//   frontier_id(parent, tokens after the last block)
//
// Equal names mean equal content. The hash is not cryptographic: the tokens lie in the files, too,
// and are compared before any use. Pure functions; any thread.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace narwhal {

struct KvId {
  uint64_t high = 0, low = 0;

  auto operator<=>(const KvId&) const = default;  // NOLINT(modernize-use-nullptr): finds a 0 in it
  std::string hex() const;                        // 32 lower-case digits
  static std::optional<KvId> from_hex(std::string_view text);
};

KvId chain_root(uint64_t fingerprint, uint32_t block_tokens);
KvId block_id(const KvId& parent, std::span<const int32_t> tokens);
KvId frontier_id(const KvId& parent, std::span<const int32_t> tail);

}  // namespace narwhal

template <>
struct std::hash<narwhal::KvId> {
  size_t operator()(const narwhal::KvId& id) const noexcept { return id.low ^ (id.high << 1); }
};
