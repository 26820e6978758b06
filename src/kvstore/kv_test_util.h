// For the tests of this room: a folder of its own, and what to expect of a store in it.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "kvstore/kv_samples.h"

namespace narwhal {

class TestFolder {
 public:
  TestFolder() {
    // In memory where the system has it: SQLite waits for the disk at every close.
    const std::filesystem::path memory = "/dev/shm";
    const auto parent =
        ::access(memory.c_str(), W_OK) == 0 ? memory : std::filesystem::temp_directory_path();
    std::string name = (parent / "kvstore_XXXXXX").string();
    path_ = ::mkdtemp(name.data()) ? name : "";
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  const std::string& path() const { return path_; }
  // Of files whose name ends so.
  std::vector<std::string> files(std::string_view suffix) const {
    std::vector<std::string> found;
    for (const auto& e : std::filesystem::directory_iterator(path_)) {
      if (e.path().string().ends_with(suffix)) found.push_back(e.path().string());
    }
    std::sort(found.begin(), found.end());
    return found;
  }

 private:
  std::string path_;
};

inline std::string read_all(const std::string& path) {
  std::ifstream f(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(f), {}};
}

inline void write_all(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

inline std::unique_ptr<KvStore> open_store(const KvStoreOptions& options) {
  auto store = KvStore::open(options);
  EXPECT_TRUE(store.ok()) << store.status().message();
  return store.ok() ? *std::move(store) : nullptr;
}

// Tokens that could be restored, 0 when there is no hit or it is damaged. Bytes that were never
// written are a failure.
inline int64_t restore(KvStore& store, std::span<const int32_t> tokens, int64_t limit = 1 << 30) {
  const auto hit = store.find(tokens, limit);
  if (!hit) return 0;
  const ReadBack read = read_hit(store, *hit, tokens);
  EXPECT_NE(read, ReadBack::kWrong);
  if (read == ReadBack::kRight) return hit->n_tokens();
  store.discard(*hit);
  return 0;
}

}  // namespace narwhal
