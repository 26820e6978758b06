#include "kvstore/kv_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

namespace narwhal {
namespace {

constexpr std::string_view kBlockSuffix = ".block", kFrontierSuffix = ".frontier";
constexpr std::string_view kTemporaryPrefix = "tmp-";

struct CloseDir {
  void operator()(DIR* d) const { ::closedir(d); }
};

template <class F>
void each_name(const std::string& path, F&& f) {
  const std::unique_ptr<DIR, CloseDir> d(::opendir(path.c_str()));
  if (!d) return;
  while (const dirent* e = ::readdir(d.get())) {
    const std::string_view name = e->d_name;
    if (name != "." && name != "..") f(name);
  }
}

std::optional<KvDir::File> parse_name(std::string_view name) {
  const bool is_block = name.ends_with(kBlockSuffix);
  if (!is_block && !name.ends_with(kFrontierSuffix)) return std::nullopt;
  name.remove_suffix(is_block ? kBlockSuffix.size() : kFrontierSuffix.size());
  const auto id = KvId::from_hex(name);
  if (!id) return std::nullopt;
  return KvDir::File{*id, is_block, 0};
}

// The files hold what was typed: nobody else may look into them.
Status check_dir(const std::string& path) {
  struct stat st {};
  if (::lstat(path.c_str(), &st) != 0) {
    return failed(fmt::format("{}: cannot be looked at: {}", path, std::strerror(errno)));
  }
  if (S_ISLNK(st.st_mode)) {
    return bad_input(path + ": a symbolic link; name the folder itself");
  }
  if (!S_ISDIR(st.st_mode)) return bad_input(path + ": not a folder");
  if (st.st_uid != ::geteuid()) {
    return bad_input(fmt::format("{}: belongs to user {}, expected {}; use another folder", path,
                                 st.st_uid, ::geteuid()));
  }
  if ((st.st_mode & 077) == 0) return ok_status();
  bool empty = true;
  each_name(path, [&](std::string_view) { empty = false; });
  if (empty && ::chmod(path.c_str(), 0700) == 0) return ok_status();
  return bad_input(fmt::format("{}: mode {:03o} lets others read it, expected 700; chmod 700 {}",
                               path, st.st_mode & 0777, path));
}

uint64_t size_of(const std::string& path) {
  struct stat st {};
  return ::stat(path.c_str(), &st) == 0 ? static_cast<uint64_t>(st.st_size) : 0;
}

}  // namespace

int open_kv_file(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
}

KvDir& KvDir::operator=(KvDir&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(files_, other.files_);
  std::swap(lock_fd_, other.lock_fd_);
  std::swap(n_temporaries_, other.n_temporaries_);
  return *this;
}

KvDir::~KvDir() {
  if (lock_fd_ >= 0) ::close(lock_fd_);
}

Result<KvDir> KvDir::open(const std::string& path, bool create, KvFileSystem& files) {
  KvDir dir;
  dir.path_ = path;
  dir.files_ = &files;
  // A slash at the end would make the system look behind a symbolic link.
  while (dir.path_.size() > 1 && dir.path_.ends_with('/')) dir.path_.pop_back();
  if (dir.path_.empty()) return usage("the folder of the cache has no name");
  if (create && ::mkdir(dir.path_.c_str(), 0700) != 0 && errno != EEXIST) {
    return failed(fmt::format("{}: cannot make the folder: {}", dir.path_, std::strerror(errno)));
  }
  if (!create && ::access(dir.path_.c_str(), F_OK) != 0) {
    return bad_input(fmt::format("{}: no cache here: {}", dir.path_, std::strerror(errno)));
  }
  NW_TRY(check_dir(dir.path_));
  const std::string lock = dir.path_ + "/lock";
  // A probe rather than access(): what counts is whether files can be made.
  std::string probe;
  const int fd = dir.create_temporary(probe);
  if (fd < 0) return dir;
  ::close(fd);
  files.remove(probe);
  dir.lock_fd_ = ::open(lock.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  return dir;
}

std::string KvDir::path_of(const KvId& id, bool is_block) const {
  return fmt::format("{}/{}{}", path_, id.hex(), is_block ? kBlockSuffix : kFrontierSuffix);
}

std::vector<KvDir::File> KvDir::list() const {
  std::vector<File> files;
  each_name(path_, [&](std::string_view name) {
    if (auto file = parse_name(name)) {
      file->bytes = size_of(fmt::format("{}/{}", path_, name));
      files.push_back(*file);
    }
  });
  return files;
}

KvDir::Lock::Lock(const KvDir& dir, bool exclusive) : fd_(dir.lock_fd_) {
  if (fd_ < 0) return;
  while (::flock(fd_, exclusive ? LOCK_EX : LOCK_SH) != 0 && errno == EINTR) {
  }
}

KvDir::Lock::~Lock() {
  if (fd_ >= 0) ::flock(fd_, LOCK_UN);
}

KvDir::Temporary::~Temporary() {
  if (fd_ >= 0) ::close(fd_);
  if (!path_.empty()) files_.remove(path_);
}

int KvDir::Temporary::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = files_.write(fd_, bytes.data(), bytes.size());
    if (n == -EINTR) continue;
    if (n <= 0) return n < 0 ? static_cast<int>(n) : -EIO;
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return 0;
}

int KvDir::Temporary::rename_to(const std::string& path) {
  const int result = files_.rename(path_, path);
  if (result == 0) path_.clear();
  return result;
}

int KvDir::create_temporary(std::string& path) {
  int fd = -EEXIST;
  // The name of a dead process with our number may still be there.
  for (int attempt = 0; fd == -EEXIST && attempt < 100; attempt++) {
    path = fmt::format("{}/{}{}-{}", path_, kTemporaryPrefix, ::getpid(), n_temporaries_++);
    fd = files_->open_new(path);
  }
  if (fd >= 0) ::flock(fd, LOCK_EX | LOCK_NB);
  return fd;
}

void KvDir::remove_stale_temporaries() {
  std::vector<std::string> paths;
  each_name(path_, [&](std::string_view name) {
    if (name.starts_with(kTemporaryPrefix)) paths.push_back(fmt::format("{}/{}", path_, name));
  });
  for (const std::string& path : paths) {
    const int fd = open_kv_file(path);
    if (fd < 0) continue;
    if (::flock(fd, LOCK_EX | LOCK_NB) == 0) files_->remove(path);
    ::close(fd);
  }
}

void KvDir::remove_index() {
  for (const char* suffix : {"", "-wal", "-shm"}) files_->remove(index_path() + suffix);
}

int KvDir::remove_file(const KvId& id, bool is_block) {
  return files_->remove(path_of(id, is_block));
}

int KvDir::remove_unpinned_frontier(const KvId& id) {
  const std::string path = path_of(id, false);
  const int fd = open_kv_file(path);
  if (fd < 0) return fd;
  const int result = ::flock(fd, LOCK_EX | LOCK_NB) == 0 ? files_->remove(path) : -EBUSY;
  ::close(fd);
  return result;
}

uint64_t KvDir::index_bytes() const { return size_of(index_path()); }

uint64_t KvDir::index_log_bytes() const { return size_of(index_path() + "-wal"); }

}  // namespace narwhal
