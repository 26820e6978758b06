#include "kvstore/kv_file.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

namespace narwhal {
namespace {

constexpr char kMagic[8] = {'N', 'A', 'R', 'W', 'H', 'L', 'K', 'V'};
constexpr size_t kChecksumAt = 104;
constexpr uint64_t kPayloadAlign = 64;
// Small enough to be hashed while it is still in the core's cache.
constexpr size_t kReadPiece = size_t{256} << 10;

struct Hasher {
  struct Free {
    void operator()(XXH3_state_t* s) const { XXH3_freeState(s); }
  };
  std::unique_ptr<XXH3_state_t, Free> state{XXH3_createState()};

  Hasher() { XXH3_64bits_reset(state.get()); }
  void add(const void* data, size_t n) {
    if (n > 0) XXH3_64bits_update(state.get(), data, n);
  }
  uint64_t digest() const { return XXH3_64bits_digest(state.get()); }
};

uint64_t header_bytes_for(uint64_t n_tokens) {
  const uint64_t n = kKvFixedBytes + n_tokens * sizeof(int32_t);
  return (n + kPayloadAlign - 1) / kPayloadAlign * kPayloadAlign;
}

template <class T>
void store(std::span<std::byte> bytes, size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

template <class T>
T load(std::span<const std::byte> bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

uint64_t header_checksum(std::span<const std::byte> fixed, std::span<const int32_t> tokens) {
  Hasher h;
  h.add(fixed.data(), kChecksumAt);
  h.add(tokens.data(), tokens.size_bytes());
  return h.digest();
}

// Exactly n bytes at `offset`.
Status read_at(int fd, uint64_t offset, std::byte* into, size_t n) {
  while (n > 0) {
    const ssize_t got = ::pread(fd, into, n, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed(fmt::format("cannot read: {}", std::strerror(errno)));
    if (got == 0) return bad_input(fmt::format("ends at byte {}, expected {} more", offset, n));
    into += got;
    offset += static_cast<uint64_t>(got);
    n -= static_cast<size_t>(got);
  }
  return ok_status();
}

Status check_fields(const KvHeader& h) {
  const bool block = h.kind == KvFileKind::kBlock;
  if (block ? h.tokens.size() != h.block_tokens : h.tokens.size() >= h.block_tokens) {
    return bad_input(fmt::format("{} tokens in a {} of a store with blocks of {}", h.tokens.size(),
                                 block ? "block" : "frontier", h.block_tokens));
  }
  if (h.start < 0 || h.start % h.block_tokens != 0 || h.start > int64_t{1} << 40) {
    return bad_input(
        fmt::format("starts at token {}, expected a multiple of {}", h.start, h.block_tokens));
  }
  if ((h.start == 0) != (h.parent == chain_root(h.fingerprint, h.block_tokens))) {
    return bad_input(fmt::format("starts at token {} of a chain, but its parent is {}", h.start,
                                 h.parent.hex()));
  }
  const KvId id = block ? block_id(h.parent, h.tokens) : frontier_id(h.parent, h.tokens);
  if (h.id != id) {
    return bad_input(fmt::format("is named {}, its tokens make {}; damaged", h.id.hex(), id.hex()));
  }
  return ok_status();
}

}  // namespace

uint64_t KvHeader::header_bytes() const { return header_bytes_for(tokens.size()); }

uint64_t checksum_of(std::span<const std::span<const std::byte>> pieces) {
  Hasher h;
  for (const auto& piece : pieces) h.add(piece.data(), piece.size());
  return h.digest();
}

std::vector<std::byte> encode_header(const KvHeader& h) {
  std::vector<std::byte> bytes(h.header_bytes());
  std::memcpy(bytes.data(), kMagic, sizeof kMagic);
  store(bytes, 8, kKvFileVersion);
  store(bytes, 12, static_cast<uint32_t>(h.kind));
  store(bytes, 16, h.fingerprint);
  store(bytes, 24, h.block_tokens);
  store(bytes, 28, static_cast<uint32_t>(h.tokens.size()));
  store(bytes, 32, h.start);
  store(bytes, 40, h.id.high);
  store(bytes, 48, h.id.low);
  store(bytes, 56, h.parent.high);
  store(bytes, 64, h.parent.low);
  store(bytes, 72, h.frontier_kind);
  store(bytes, 80, h.conversation);
  store(bytes, 88, h.payload_bytes);
  store(bytes, 96, h.payload_checksum);
  store(bytes, kChecksumAt, header_checksum(bytes, h.tokens));
  if (!h.tokens.empty()) {
    std::memcpy(bytes.data() + kKvFixedBytes, h.tokens.data(), h.tokens.size() * sizeof(int32_t));
  }
  return bytes;
}

Result<uint64_t> header_bytes_of(std::span<const std::byte> fixed, uint64_t file_bytes) {
  if (fixed.size() < kKvFixedBytes || file_bytes < kKvFixedBytes) {
    return bad_input(
        fmt::format("{} bytes, a header alone has {}; truncated", file_bytes, kKvFixedBytes));
  }
  if (std::memcmp(fixed.data(), kMagic, sizeof kMagic) != 0) {
    return bad_input("not a file of the cache: the first 8 bytes are not NARWHLKV");
  }
  const auto version = load<uint32_t>(fixed, 8);
  if (version != kKvFileVersion) {
    return bad_input(fmt::format("version {}, expected {}", version, kKvFileVersion));
  }
  const auto block_tokens = load<uint32_t>(fixed, 24), n_tokens = load<uint32_t>(fixed, 28);
  if (block_tokens < 1 || block_tokens > kMaxBlockTokens || n_tokens > block_tokens) {
    return bad_input(fmt::format("{} tokens in blocks of {}, expected at most {}", n_tokens,
                                 block_tokens, kMaxBlockTokens));
  }
  const uint64_t n_header = header_bytes_for(n_tokens);
  const auto n_payload = load<uint64_t>(fixed, 88);
  if (file_bytes < n_header || n_payload != file_bytes - n_header) {
    return bad_input(
        fmt::format("{} bytes, but its header states {} and a payload of {}; truncated or damaged",
                    file_bytes, n_header, n_payload));
  }
  return n_header;
}

Result<KvHeader> parse_header(std::span<const std::byte> bytes, uint64_t file_bytes) {
  NW_ASSIGN(const uint64_t n_header, header_bytes_of(bytes, file_bytes));
  if (bytes.size() < n_header) {
    return bad_input(fmt::format("{} bytes of a header of {}; truncated", bytes.size(), n_header));
  }
  KvHeader h;
  const auto kind = load<uint32_t>(bytes, 12);
  if (kind > 1) return bad_input(fmt::format("kind {}, expected 0 or 1", kind));
  h.kind = static_cast<KvFileKind>(kind);
  h.fingerprint = load<uint64_t>(bytes, 16);
  h.block_tokens = load<uint32_t>(bytes, 24);
  h.tokens.resize(load<uint32_t>(bytes, 28));
  h.start = load<int64_t>(bytes, 32);
  h.id = {load<uint64_t>(bytes, 40), load<uint64_t>(bytes, 48)};
  h.parent = {load<uint64_t>(bytes, 56), load<uint64_t>(bytes, 64)};
  h.frontier_kind = load<uint32_t>(bytes, 72);
  h.conversation = load<uint64_t>(bytes, 80);
  h.payload_bytes = load<uint64_t>(bytes, 88);
  h.payload_checksum = load<uint64_t>(bytes, 96);
  if (!h.tokens.empty()) {
    std::memcpy(h.tokens.data(), bytes.data() + kKvFixedBytes, h.tokens.size() * sizeof(int32_t));
  }
  if (header_checksum(bytes, h.tokens) != load<uint64_t>(bytes, kChecksumAt)) {
    return bad_input("the checksum of the header does not match; damaged");
  }
  NW_TRY(check_fields(h));
  return h;
}

Result<KvHeader> read_header(int fd) {
  struct stat st {};
  if (::fstat(fd, &st) != 0) return failed(fmt::format("cannot stat: {}", std::strerror(errno)));
  const auto file_bytes = static_cast<uint64_t>(st.st_size);
  std::vector<std::byte> bytes(std::min<uint64_t>(file_bytes, kKvFixedBytes));
  NW_TRY(read_at(fd, 0, bytes.data(), bytes.size()));
  NW_ASSIGN(const uint64_t n_header, header_bytes_of(bytes, file_bytes));
  bytes.resize(n_header);
  NW_TRY(read_at(fd, kKvFixedBytes, bytes.data() + kKvFixedBytes, n_header - kKvFixedBytes));
  return parse_header(bytes, file_bytes);
}

Status read_payload(int fd, const KvHeader& header, std::span<const std::span<std::byte>> pieces) {
  uint64_t total = 0;
  for (const auto& piece : pieces) total += piece.size();
  if (total != header.payload_bytes) {
    return bad_input(fmt::format("holds {} bytes, expected {}", header.payload_bytes, total));
  }
  Hasher hasher;
  uint64_t offset = header.header_bytes();
  for (const auto& piece : pieces) {
    for (size_t at = 0; at < piece.size(); at += kReadPiece) {
      const size_t n = std::min(kReadPiece, piece.size() - at);
      NW_TRY(read_at(fd, offset, piece.data() + at, n));
      hasher.add(piece.data() + at, n);
      offset += n;
    }
  }
  if (hasher.digest() != header.payload_checksum) {
    return bad_input("the checksum of the payload does not match; damaged");
  }
  return ok_status();
}

Status check_payload(int fd, const KvHeader& header) {
  std::vector<std::byte> buffer(std::min<uint64_t>(kReadPiece, header.payload_bytes));
  Hasher hasher;
  for (uint64_t at = 0; at < header.payload_bytes; at += buffer.size()) {
    const size_t n = std::min<uint64_t>(buffer.size(), header.payload_bytes - at);
    NW_TRY(read_at(fd, header.header_bytes() + at, buffer.data(), n));
    hasher.add(buffer.data(), n);
  }
  if (hasher.digest() != header.payload_checksum) {
    return bad_input("the checksum of the payload does not match; damaged");
  }
  return ok_status();
}

}  // namespace narwhal
