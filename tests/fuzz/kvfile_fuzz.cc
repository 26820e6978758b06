// Any bytes: the header parser of the cache's files refuses them, or what it hands out is what they
// say, and encodes to the same bytes.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "kvstore/kv_file.h"

using narwhal::KvHeader;

namespace {

void check(std::span<const std::byte> file) {
  const auto header = narwhal::parse_header(file, file.size());
  if (!header.ok()) {
    NW_CHECK(header.status().message().find('\n') == std::string::npos, "a message of two lines");
    return;
  }
  NW_CHECK(header->file_bytes() == file.size(), "{} bytes of {}", header->file_bytes(),
           file.size());
  const auto again = narwhal::encode_header(*header);
  const size_t n = narwhal::kKvFixedBytes + header->tokens.size() * sizeof(int32_t);
  // Bytes 76 to 79 and those after the tokens mean nothing.
  NW_CHECK(std::memcmp(again.data(), file.data(), 76) == 0, "another beginning");
  NW_CHECK(std::equal(file.begin() + narwhal::kKvFixedBytes, file.begin() + n,
                      again.begin() + narwhal::kKvFixedBytes),
           "other tokens");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span bytes = std::as_bytes(std::span(data, size));
  check(bytes);
  // Few inputs have good checksums and names: the same fields with those put right.
  if (size < narwhal::kKvFixedBytes) return 0;
  KvHeader h;
  std::vector<uint8_t> word(data, data + narwhal::kKvFixedBytes);
  h.kind = static_cast<narwhal::KvFileKind>(word[12] & 1);
  std::memcpy(&h.fingerprint, &word[16], 8);
  h.block_tokens = 1 + word[24] % 64;
  std::memcpy(&h.start, &word[32], 8);
  std::memcpy(&h.parent, &word[56], 16);
  std::memcpy(&h.frontier_kind, &word[72], 4);
  std::memcpy(&h.conversation, &word[80], 8);
  if (word[28] & 1) {
    h.start = 0;
    h.parent = narwhal::chain_root(h.fingerprint, h.block_tokens);
  }
  const size_t n = word[30] % (h.block_tokens + 2);
  for (size_t i = 0; i < n; i++) h.tokens.push_back(data[i % size]);
  h.id = h.kind == narwhal::KvFileKind::kBlock ? narwhal::block_id(h.parent, h.tokens)
                                               : narwhal::frontier_id(h.parent, h.tokens);
  h.payload_bytes = size - narwhal::kKvFixedBytes;
  auto file = narwhal::encode_header(h);
  file.insert(file.end(), bytes.begin() + narwhal::kKvFixedBytes, bytes.end());
  check(file);
  return 0;
}
