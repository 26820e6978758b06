// KvDir: the directory of the store and the names in it.
//
//   index.sqlite (-wal, -shm)    KvIndex
//   lock                         flock: shared while a file gets its name and its row in the index,
//                                exclusive while files are removed or compared with the index
//   ID.block, ID.frontier        kv_file.h
//   tmp-PID-N                    being written; locked by its writer, so a dead one's is unlocked
//
// A pin is a shared flock on a frontier file: it holds between processes and ends with its process.
// One thread at a time, but for path_of().
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kvstore/kv_file.h"
#include "kvstore/kv_file_system.h"
#include "narwhal/status.h"

namespace narwhal {

class KvDir {
 public:
  KvDir() = default;
  KvDir(KvDir&& other) noexcept { *this = std::move(other); }
  KvDir& operator=(KvDir&& other) noexcept;
  ~KvDir();

  // kBadInput: missing (unless `create`), no directory, a symlink, another user's, or readable by
  // others and not empty; kFailed: cannot be made.
  static Result<KvDir> open(const std::string& path, bool create, KvFileSystem& files);

  const std::string& path() const { return path_; }
  std::string path_of(const KvId& id, bool is_block) const;
  std::string index_path() const { return path_ + "/index.sqlite"; }
  bool writable() const { return lock_fd_ >= 0; }

  struct File {
    KvId id;
    bool is_block = false;
    uint64_t bytes = 0;
  };
  std::vector<File> list() const;

  class Lock {
   public:
    Lock(const KvDir& dir, bool exclusive);
    ~Lock();
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;

   private:
    int fd_;
  };

  // A file without its final name yet. Removed unless it is given one.
  class Temporary {
   public:
    Temporary(KvFileSystem& files, std::string path, int fd)
        : files_(files), path_(std::move(path)), fd_(fd) {}
    ~Temporary();
    Temporary(const Temporary&) = delete;
    Temporary& operator=(const Temporary&) = delete;

    // 0 or -errno.
    int write(std::span<const std::byte> bytes);
    int sync() { return files_.sync(fd_); }
    int rename_to(const std::string& path);

   private:
    KvFileSystem& files_;
    std::string path_;
    int fd_;
  };

  // Under a lock. Descriptor of a new temporary file, or -errno.
  int create_temporary(std::string& path);
  // Under the exclusive lock.
  void remove_stale_temporaries();
  void remove_index();
  // 0 or -errno. A frontier that is pinned stays: -EBUSY.
  int remove_file(const KvId& id, bool is_block);
  int remove_unpinned_frontier(const KvId& id);

  // Bytes of index.sqlite, and of its log.
  uint64_t index_bytes() const;
  uint64_t index_log_bytes() const;

 private:
  std::string path_;
  KvFileSystem* files_ = nullptr;
  int lock_fd_ = -1;
  uint64_t n_temporaries_ = 0;
};

// Opens a file of the store for reading: the descriptor or -errno.
int open_kv_file(const std::string& path);

}  // namespace narwhal
