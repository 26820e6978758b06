// Contents that follow from the tokens, so that any process can tell what it must find. For the
// tests and benches of this room.
#pragma once

#include <xxhash.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "kvstore/kv_file_system.h"
#include "kvstore/kv_store.h"

namespace narwhal {

using Tokens = std::vector<int32_t>;
using Bytes = std::vector<std::byte>;

inline constexpr int kTestBlock = 8;
inline constexpr size_t kTestBlockBytes = 30000, kTestFrontierBytes = 10000, kTestRowBytes = 500;

// Conversation `seed`: its first `shared` tokens are those of every conversation.
inline Tokens test_tokens(uint64_t seed, size_t n, size_t shared = 0) {
  Tokens tokens(n);
  for (size_t i = 0; i < n; i++) {
    const uint64_t key[2] = {i < shared ? 0 : seed + 1, i};
    tokens[i] = static_cast<int32_t>(XXH3_64bits(key, sizeof key) % 1000);
  }
  return tokens;
}

inline Bytes test_bytes(std::span<const int32_t> prefix, size_t n, uint64_t salt) {
  Bytes bytes(n);
  uint64_t h = XXH3_64bits_withSeed(prefix.data(), prefix.size_bytes(), salt);
  for (size_t i = 0; i < n; i += sizeof h) {
    h = h * 6364136223846793005u + 1442695040888963407u;
    std::memcpy(bytes.data() + i, &h, std::min(sizeof h, n - i));
  }
  return bytes;
}

inline Bytes block_bytes(std::span<const int32_t> prefix) {
  return test_bytes(prefix, kTestBlockBytes, 1);
}

inline Bytes frontier_bytes(std::span<const int32_t> prefix) {
  return test_bytes(prefix, kTestFrontierBytes + prefix.size() % kTestBlock * kTestRowBytes, 2);
}

// Leaves out fsync, which only a loss of power would show.
class UnsyncedFiles : public KvFileSystem {
 public:
  int sync(int) override { return 0; }
};

inline KvStoreOptions test_options(const std::string& dir) {
  static UnsyncedFiles files;
  KvStoreOptions o;
  o.dir = dir;
  o.budget_bytes = uint64_t{1} << 30;
  o.fingerprint = 42;
  o.block_tokens = kTestBlock;
  o.min_frontier_gap = 1;
  o.log = [](std::string_view) {};
  o.files = &files;
  return o;
}

// What a session does after computing `tokens`.
inline void put(KvStore& store, std::span<const int32_t> tokens, uint64_t conversation = 1,
                FrontierKind kind = FrontierKind::kTurnEnd) {
  const auto n = static_cast<size_t>(store.stored_prefix(tokens));
  for (size_t p = n; p + kTestBlock <= tokens.size(); p += kTestBlock) {
    const auto prefix = tokens.first(p + kTestBlock);
    store.put_block(prefix, block_bytes(prefix));
  }
  store.put_frontier(tokens, frontier_bytes(tokens), kind, conversation);
}

// kGone: something could not be read, which is no fault when others evict or damage.
enum class ReadBack { kRight, kGone, kWrong };

inline ReadBack read_hit(KvStore& store, const KvStore::Hit& hit, std::span<const int32_t> tokens) {
  for (int i = 0; i < hit.n_blocks(); i++) {
    const Bytes expected = block_bytes(tokens.first((i + 1) * kTestBlock));
    Bytes rows(expected.size());
    if (!store.read_block(hit, i, rows).ok()) return ReadBack::kGone;
    if (rows != expected) return ReadBack::kWrong;
  }
  const Bytes expected = frontier_bytes(tokens.first(hit.n_tokens()));
  Bytes bytes(hit.frontier_bytes());
  if (!store.read_frontier(hit, bytes).ok()) return ReadBack::kGone;
  return bytes == expected ? ReadBack::kRight : ReadBack::kWrong;
}

}  // namespace narwhal
