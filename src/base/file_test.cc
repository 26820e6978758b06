#include "base/file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>
#include <vector>

namespace narwhal {
namespace {

namespace fs = std::filesystem;

class FileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = testing::TempDir() + "narwhal_XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  std::string write(const std::string& name, const std::string& bytes) const {
    std::ofstream(path(name), std::ios::binary) << bytes;
    return path(name);
  }
  fs::path folder_;
};

std::string as_text(std::span<const std::byte> b) {
  return {reinterpret_cast<const char*>(b.data()), b.size()};
}

TEST_F(FileTest, MapsAndReads) {
  const std::string bytes("a\0b\n\xFF", 5);
  const std::string p = write("f", bytes);
  auto file = MappedFile::open(p);
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(as_text(file->bytes()), bytes);
  EXPECT_EQ(file->path(), p);
  const MappedFile moved = *std::move(file);
  EXPECT_EQ(as_text(moved.bytes()), bytes);
  EXPECT_EQ(*read_file(p), bytes);
  EXPECT_TRUE(MappedFile::open(write("empty", ""))->bytes().empty());
  EXPECT_EQ(*read_file(path("empty")), "");
}

TEST_F(FileTest, FaultsNameTheFile) {
  for (const std::string& p : {path("missing"), folder_.string()}) {
    const auto mapped = MappedFile::open(p);
    ASSERT_FALSE(mapped.ok());
    EXPECT_EQ(mapped.status().code(), Code::kBadInput);
    EXPECT_NE(mapped.status().message().find(p), std::string::npos);
    const auto text = read_file(p);
    ASSERT_FALSE(text.ok()) << p;
    EXPECT_EQ(text.status().code(), Code::kBadInput);
    EXPECT_NE(text.status().message().find(p), std::string::npos);
  }
}

TEST_F(FileTest, AtomicFileAppearsAtCommit) {
  const std::string p = write("f", "old");
  auto file = AtomicFile::create(p);
  ASSERT_TRUE(file.ok()) << file.status().message();
  ASSERT_TRUE(file->resize(6).ok());
  ASSERT_TRUE(file->write_at(3, "def", 3).ok());
  ASSERT_TRUE(file->write_at(0, "abc", 3).ok());
  EXPECT_EQ(*read_file(p), "old");
  ASSERT_TRUE(file->commit().ok());
  EXPECT_EQ(*read_file(p), "abcdef");
  EXPECT_FALSE(fs::exists(p + ".partial"));
}

TEST_F(FileTest, AtomicFileWithoutCommitLeavesNothing) {
  const std::string p = path("f");
  {
    auto file = AtomicFile::create(p);
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->write_at(0, "x", 1).ok());
    const AtomicFile moved = *std::move(file);  // the owner that is left removes it
    EXPECT_TRUE(fs::exists(p + ".partial"));
  }
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(FileTest, AtomicFileHolesAreZeros) {
  auto file = AtomicFile::create(path("f"));
  ASSERT_TRUE(file.ok());
  ASSERT_TRUE(file->resize(1 << 16).ok());
  ASSERT_TRUE(file->write_at(65535, "x", 1).ok());
  ASSERT_TRUE(file->commit().ok());
  EXPECT_EQ(*read_file(path("f")), std::string(65535, '\0') + "x");
}

TEST_F(FileTest, AtomicFileTakesDisjointRangesFromSeveralThreads) {
  auto file = AtomicFile::create(path("f"));
  ASSERT_TRUE(file.ok());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([&, t] {
      const std::string part(10000, static_cast<char>('a' + t));
      EXPECT_TRUE(file->write_at(t * part.size(), part.data(), part.size()).ok());
    });
  }
  for (auto& t : threads) t.join();
  ASSERT_TRUE(file->commit().ok());
  const std::string got = *read_file(path("f"));
  for (int t = 0; t < 4; t++)
    EXPECT_EQ(got.substr(t * 10000, 10000), std::string(10000, static_cast<char>('a' + t)));
}

TEST_F(FileTest, AtomicFileRefusesAFolderThatIsNotThere) {
  const auto file = AtomicFile::create(path("no/f"));
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.status().code(), Code::kFailed);
}

TEST_F(FileTest, AtomicFileReportsAFullDevice) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "needs /dev/full";
  fs::create_symlink("/dev/full", path("f.partial"));
  auto file = AtomicFile::create(path("f"));
  ASSERT_TRUE(file.ok()) << file.status().message();
  const Status status = file->write_at(0, "x", 1);
  EXPECT_EQ(status.code(), Code::kFailed);
  EXPECT_NE(status.message().find('f'), std::string::npos);
}

TEST(CheckUtf8, AcceptsWellFormedText) {
  for (const char* good :
       {"", "plain", "é日👍🏽", "\xEF\xBB\xBF", "\xF4\x8F\xBF\xBF", "\xED\x9F\xBF"})
    EXPECT_TRUE(check_utf8(good).ok()) << good;
}

TEST(CheckUtf8, NamesTheFirstBadByte) {
  for (const char* bad :
       {"\x80", "\xC3", "\xC0\xAF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xE2\x82", "\xF0\x8F\xBF\xBF",
        "\xF4\x90\x80\x80", "\xF8\x88\x80\x80\x80", "\xFF", "\xE2\x28\xA1"}) {
    const Status status = check_utf8(std::string("é1") + bad);
    EXPECT_EQ(status.code(), Code::kBadInput) << bad;
    EXPECT_NE(status.message().find("byte 3"), std::string::npos) << status.message();
  }
}

}  // namespace
}  // namespace narwhal
