// The files of the store: one format for blocks and frontiers. Little-endian, no gaps.
//
//   offset  bytes  field
//        0      8  magic "NARWHLKV"
//        8      4  version, 1
//       12      4  kind: 0 block, 1 frontier
//       16      8  fingerprint of model and numerics
//       24      4  block_tokens: tokens of a block, 1 to 2^20
//       28      4  n_tokens in this file: block_tokens in a block, fewer in a frontier (its tail)
//       32      8  start: position of the first of them, a multiple of block_tokens
//       40     16  id (high, low): the hash chain of kv_id.h; also the file's name
//       56     16  parent
//       72      4  frontier kind (FrontierKind); 0 in a block
//       76      4  0
//       80      8  conversation that wrote a frontier; 0 in a block
//       88      8  payload bytes
//       96      8  XXH3-64 of the payload
//      104      8  XXH3-64 of bytes 0..103 and the tokens
//      112   4 n  tokens, int32
//        .      .  zeros up to a multiple of 64
//        .      .  payload, to the end of the file
//
// Everything is checked before it is used: sizes against the file's, the id against the tokens.
// Pure functions and a reader of an open descriptor; any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kvstore/kv_id.h"
#include "narwhal/status.h"

namespace narwhal {

inline constexpr uint32_t kKvFileVersion = 1;
inline constexpr uint32_t kMaxBlockTokens = 1 << 20;
inline constexpr size_t kKvFixedBytes = 112;

enum class KvFileKind : uint32_t { kBlock = 0, kFrontier = 1 };

struct KvHeader {
  KvFileKind kind = KvFileKind::kBlock;
  uint64_t fingerprint = 0;
  uint32_t block_tokens = 0;
  int64_t start = 0;
  KvId id{}, parent{};
  uint32_t frontier_kind = 0;
  uint64_t conversation = 0;
  uint64_t payload_bytes = 0;
  uint64_t payload_checksum = 0;
  std::vector<int32_t> tokens{};

  int64_t end() const { return start + static_cast<int64_t>(tokens.size()); }
  // Bytes before the payload, and of the whole file.
  uint64_t header_bytes() const;
  uint64_t file_bytes() const { return header_bytes() + payload_bytes; }
};

// XXH3-64 of pieces in order.
uint64_t checksum_of(std::span<const std::span<const std::byte>> pieces);

// The bytes before the payload.
std::vector<std::byte> encode_header(const KvHeader& header);

// Bytes that hold the whole header, from the first kKvFixedBytes of a file of `file_bytes`.
// kBadInput: not such a file, another version, or sizes that contradict each other.
Result<uint64_t> header_bytes_of(std::span<const std::byte> fixed, uint64_t file_bytes);
// `bytes` holds at least the header. kBadInput as above, and where checksum or id do not fit.
Result<KvHeader> parse_header(std::span<const std::byte> bytes, uint64_t file_bytes);

// Reads and checks the header of an open file.
Result<KvHeader> read_header(int fd);
// Reads the payload into `pieces`, whose sizes must add up to it, and checks its checksum.
Status read_payload(int fd, const KvHeader& header, std::span<const std::span<std::byte>> pieces);
// The same without keeping it.
Status check_payload(int fd, const KvHeader& header);

}  // namespace narwhal
