#include "kvstore/kv_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>

#include "kvstore/kv_test_util.h"

namespace narwhal {
namespace {

KvHeader sample(KvFileKind kind, int64_t start) {
  KvHeader h;
  h.kind = kind;
  h.fingerprint = 7;
  h.block_tokens = 8;
  h.start = start;
  h.parent = start == 0 ? chain_root(7, 8) : KvId{1, 2};
  h.tokens = test_tokens(1, kind == KvFileKind::kBlock ? 8 : 3);
  h.id =
      kind == KvFileKind::kBlock ? block_id(h.parent, h.tokens) : frontier_id(h.parent, h.tokens);
  h.frontier_kind = kind == KvFileKind::kBlock ? 0 : 2;
  h.conversation = kind == KvFileKind::kBlock ? 0 : 99;
  const Bytes payload = test_bytes(h.tokens, 300, 5);
  const std::span<const std::byte> piece = payload;
  h.payload_bytes = payload.size();
  h.payload_checksum = checksum_of(std::span(&piece, 1));
  return h;
}

Bytes whole_file(const KvHeader& h) {
  Bytes file = encode_header(h);
  const Bytes payload = test_bytes(h.tokens, 300, 5);
  file.insert(file.end(), payload.begin(), payload.end());
  return file;
}

TEST(KvId, NamesAreStable) {  // names of files that users have
  EXPECT_EQ(chain_root(1, 2048).hex(), "8decbc7e67a863530b51a1441815ca69");
  EXPECT_EQ(block_id(chain_root(1, 2), Tokens{3, 4}).hex(), "f6a72a74e6f25d2862a0bea94af4bd53");
  EXPECT_EQ(frontier_id(chain_root(1, 2), Tokens{3}).hex(), "d89eed615088bb0f4aba3fd624c41c5d");
}

TEST(KvId, DependsOnEverything) {
  const KvId root = chain_root(1, 2);
  EXPECT_NE(root, chain_root(2, 2));
  EXPECT_NE(root, chain_root(1, 4));
  EXPECT_NE(block_id(root, Tokens{3, 4}), block_id(root, Tokens{4, 3}));
  EXPECT_NE(block_id(root, Tokens{3, 4}), block_id(chain_root(2, 2), Tokens{3, 4}));
  EXPECT_NE(block_id(root, Tokens{3, 4}), frontier_id(root, Tokens{3, 4}));
  EXPECT_NE(root, frontier_id(root, Tokens{}));
}

TEST(KvId, Hex) {
  const KvId id{0x0123456789abcdef, 0xfedcba9876543210};
  EXPECT_EQ(id.hex(), "0123456789abcdeffedcba9876543210");
  EXPECT_EQ(KvId::from_hex(id.hex()), id);
  for (const char* bad :
       {"", "0123", "0123456789ABCDEFfedcba9876543210", "0123456789abcdeffedcba987654321g",
        "0123456789abcdeffedcba98765432100"}) {
    EXPECT_EQ(KvId::from_hex(bad), std::nullopt) << bad;
  }
}

TEST(KvFile, RoundTrip) {
  for (const KvHeader& h : {sample(KvFileKind::kBlock, 0), sample(KvFileKind::kBlock, 16),
                            sample(KvFileKind::kFrontier, 0), sample(KvFileKind::kFrontier, 8)}) {
    const Bytes file = whole_file(h);
    ASSERT_EQ(file.size(), h.file_bytes());
    EXPECT_EQ(h.header_bytes() % 64, 0);
    const auto read = parse_header(file, file.size());
    ASSERT_TRUE(read.ok()) << read.status().message();
    EXPECT_EQ(read->kind, h.kind);
    EXPECT_EQ(read->fingerprint, h.fingerprint);
    EXPECT_EQ(read->start, h.start);
    EXPECT_EQ(read->id, h.id);
    EXPECT_EQ(read->parent, h.parent);
    EXPECT_EQ(read->frontier_kind, h.frontier_kind);
    EXPECT_EQ(read->conversation, h.conversation);
    EXPECT_EQ(read->tokens, h.tokens);
    EXPECT_EQ(encode_header(*read), encode_header(h));
  }
}

// The magic and the version also say what the fault is.
TEST(KvFile, EveryFlippedBitOfTheHeaderIsSeen) {
  const KvHeader h = sample(KvFileKind::kFrontier, 8);
  Bytes file = whole_file(h);
  const size_t n = kKvFixedBytes + h.tokens.size() * sizeof(int32_t);
  for (size_t bit = 0; bit < n * 8; bit++) {
    file[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    EXPECT_FALSE(parse_header(file, file.size()).ok()) << "bit " << bit;
    file[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
  }
  file[8] = std::byte{2};
  EXPECT_EQ(parse_header(file, file.size()).status().message(), "version 2, expected 1");
}

TEST(KvFile, EveryTruncationIsSeen) {
  const Bytes file = whole_file(sample(KvFileKind::kBlock, 0));
  for (size_t n = 0; n < file.size(); n++) {
    EXPECT_FALSE(parse_header(std::span(file).first(n), n).ok()) << n;
  }
  EXPECT_FALSE(parse_header(file, file.size() + 1).ok());
}

// Sizes that would overflow when added.
TEST(KvFile, HugeSizesAreRefused) {
  Bytes file = whole_file(sample(KvFileKind::kBlock, 0));
  for (uint64_t n : {~uint64_t{0}, ~uint64_t{0} - 150, uint64_t{1} << 63}) {
    std::memcpy(file.data() + 88, &n, sizeof n);
    EXPECT_FALSE(header_bytes_of(file, file.size()).ok());
  }
  Bytes counts = whole_file(sample(KvFileKind::kBlock, 0));
  const uint32_t huge[2] = {0xffffffff, 0xffffffff};
  std::memcpy(counts.data() + 24, huge, sizeof huge);
  EXPECT_FALSE(header_bytes_of(counts, counts.size()).ok());
}

TEST(KvFile, PayloadIsCheckedAndScattered) {
  const TestFolder folder;
  const KvHeader h = sample(KvFileKind::kBlock, 0);
  const Bytes file = whole_file(h);
  const std::string path = folder.path() + "/x";
  const auto open_with = [&](const Bytes& bytes) {
    write_all(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    return ::open(path.c_str(), O_RDONLY);
  };
  int fd = open_with(file);
  Bytes a(100), b(0), c(200);
  const std::span<std::byte> pieces[] = {a, b, c};
  ASSERT_TRUE(read_payload(fd, h, pieces).ok());
  a.insert(a.end(), c.begin(), c.end());
  EXPECT_EQ(a, test_bytes(h.tokens, 300, 5));
  EXPECT_TRUE(check_payload(fd, h).ok());
  Bytes small(299);
  const std::span<std::byte> one = small;
  EXPECT_FALSE(read_payload(fd, h, std::span(&one, 1)).ok());
  ::close(fd);

  Bytes damaged = file;
  damaged.back() ^= std::byte{1};
  fd = open_with(damaged);
  Bytes all(300);
  const std::span<std::byte> into = all;
  EXPECT_FALSE(read_payload(fd, h, std::span(&into, 1)).ok());
  EXPECT_FALSE(check_payload(fd, h).ok());
  ::close(fd);
}

}  // namespace
}  // namespace narwhal
