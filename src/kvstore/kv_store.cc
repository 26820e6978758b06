#include "kvstore/kv_store.h"

#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "kvstore/kv_store_impl.h"

namespace narwhal {
namespace {

// Closes what it holds.
struct Descriptor {
  int fd = -1;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

KvStore::Hit::Hit(Hit&& other) noexcept { *this = std::move(other); }

KvStore::Hit& KvStore::Hit::operator=(Hit&& other) noexcept {
  std::swap(tokens_, other.tokens_);
  std::swap(blocks_, other.blocks_);
  std::swap(frontier_, other.frontier_);
  std::swap(frontier_bytes_, other.frontier_bytes_);
  std::swap(fd_, other.fd_);
  return *this;
}

KvStore::Hit::~Hit() {
  if (fd_ >= 0) ::close(fd_);
}

KvStore::KvStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
KvStore::~KvStore() = default;

Result<std::unique_ptr<KvStore>> KvStore::open(KvStoreOptions options) {
  if (options.block_tokens < 1 || options.block_tokens > static_cast<int>(kMaxBlockTokens)) {
    return usage(fmt::format("blocks of {} tokens, expected 1 to {}", options.block_tokens,
                             kMaxBlockTokens));
  }
  KvFileSystem& files = options.files ? *options.files : KvFileSystem::system();
  NW_ASSIGN(KvDir dir, KvDir::open(options.dir, options.create, files));
  auto impl = std::make_unique<Impl>(std::move(options), std::move(dir));
  NW_TRY(impl->start().within(impl->dir.path()));
  return std::unique_ptr<KvStore>(new KvStore(std::move(impl)));
}

KvStore::Impl::Impl(KvStoreOptions o, KvDir d)
    : options(std::move(o)),
      files(options.files ? *options.files : KvFileSystem::system()),
      dir(std::move(d)) {}

Status KvStore::Impl::start() {
  if (read_only()) {
    log(fmt::format("{}: cannot be written; used for reading only", dir.path()));
    NW_TRY(read_index.open(":memory:", 0));
    adopt_locked(read_index, dir.list());
    return read_index.take_fault();
  }
  {
    const std::lock_guard guard(write_mutex);
    const KvDir::Lock lock(dir, true);
    dir.remove_stale_temporaries();
    NW_TRY(open_index_locked());
    known = write_index.block_ids();
  }
  writer = std::thread([this] { work(); });
  enqueue(0, [this] { make_room(0, {}); });
  return ok_status();
}

void KvStore::Impl::log(const std::string& line) const {
  if (options.log) {
    options.log(line);
  } else {
    fmt::print(stderr, "narwhal: cache: {}\n", line);
  }
}

int64_t KvStore::Impl::now() const {
  using std::chrono::system_clock;
  return std::chrono::duration_cast<std::chrono::seconds>(system_clock::now().time_since_epoch())
      .count();
}

std::vector<KvId> KvStore::Impl::chain(std::span<const int32_t> tokens) const {
  const size_t n = block_tokens();
  std::vector<KvId> ids = {chain_root(options.fingerprint, block_tokens())};
  ids.reserve(tokens.size() / n + 1);
  for (size_t at = 0; at + n <= tokens.size(); at += n) {
    ids.push_back(block_id(ids.back(), tokens.subspan(at, n)));
  }
  return ids;
}

std::optional<KvStore::Hit> KvStore::find(std::span<const int32_t> tokens, int64_t limit) {
  Impl& s = *impl_;
  const auto n = std::min(tokens.size(), static_cast<size_t>(std::max<int64_t>(0, limit)));
  std::optional<Hit> hit = s.find_on_disk(tokens.first(n));
  {
    const std::lock_guard guard(s.queue_mutex);
    s.last_found = hit ? hit->frontier_ : KvId{};
  }
  if (hit) {
    s.enqueue(0, [&s, id = hit->frontier_, n_tokens = hit->n_tokens()] {
      const std::lock_guard guard(s.write_mutex);
      s.check_index(s.write_index.touch(id, n_tokens, s.now()));
    });
  } else {
    s.enqueue(0, [&s] {
      const std::lock_guard guard(s.write_mutex);
      s.check_index(s.write_index.count_miss());
    });
  }
  return hit;
}

std::optional<KvStore::Hit> KvStore::Impl::find_on_disk(std::span<const int32_t> tokens) {
  const std::vector<KvId> ids = chain(tokens);
  const std::lock_guard guard(read_mutex);
  std::optional<Hit> hit;
  for (size_t k = ids.size(); !hit && k-- > 0;) {
    const size_t border = k * block_tokens();
    for (const FrontierRow& row : read_index.frontiers_of(ids[k])) {
      const auto end = static_cast<size_t>(row.n_tokens);
      if (end < border || end > tokens.size()) continue;
      if (frontier_id(ids[k], tokens.subspan(border, end - border)) != row.id) continue;
      hit = open_hit(row, std::span(ids).first(k + 1), tokens.first(end));
      if (hit) break;
    }
  }
  check_read_index_locked();
  return hit;
}

// Pins the frontier's file and checks its header, and that the blocks before it are in place, so
// that what is damaged visibly costs no failed restore.
std::optional<KvStore::Hit> KvStore::Impl::open_hit(const FrontierRow& row,
                                                    std::span<const KvId> ids,
                                                    std::span<const int32_t> tokens) {
  Hit hit;
  hit.fd_ = open_kv_file(dir.path_of(row.id, false));
  struct stat st {};
  // Locked exclusively or without a name: another process is removing it.
  if (hit.fd_ >= 0 && (::flock(hit.fd_, LOCK_SH | LOCK_NB) != 0 || ::fstat(hit.fd_, &st) != 0 ||
                       st.st_nlink == 0)) {
    return std::nullopt;
  }
  const auto header =
      hit.fd_ >= 0 ? read_header(hit.fd_) : Result<KvHeader>(failed("cannot be opened"));
  const size_t border = (ids.size() - 1) * block_tokens();
  const auto tail = tokens.subspan(border);
  if (!header.ok() || header->id != row.id || header->parent != ids.back() ||
      !std::equal(tail.begin(), tail.end(), header->tokens.begin(), header->tokens.end())) {
    enqueue(0, [this, id = row.id] { repair(id, false, false); });
    return std::nullopt;
  }
  if (!blocks_in_place(ids.subspan(1))) return std::nullopt;
  hit.tokens_.assign(tokens.begin(), tokens.end());
  hit.blocks_.assign(ids.begin() + 1, ids.end());
  hit.frontier_ = row.id;
  hit.frontier_bytes_ = header->payload_bytes;
  return hit;
}

bool KvStore::Impl::blocks_in_place(std::span<const KvId> blocks) {
  for (const KvId& id : blocks) {
    const auto row = read_index.find_block(id);
    struct stat st {};
    if (row && ::stat(dir.path_of(id, true).c_str(), &st) == 0 &&
        static_cast<uint64_t>(st.st_size) == row->bytes) {
      continue;
    }
    enqueue(0, [this, id] { repair(id, true, false); });
    return false;
  }
  return true;
}

Status KvStore::read_block(const Hit& hit, int i, std::span<const std::span<std::byte>> pieces) {
  NW_CHECK(i >= 0 && i < hit.n_blocks(), "block {} of a hit with {}", i, hit.n_blocks());
  const KvId& id = hit.blocks_[i];
  const Descriptor file{open_kv_file(impl_->dir.path_of(id, true))};
  if (file.fd < 0) {
    return bad_input(fmt::format("block {}: {}", id.hex(), std::strerror(-file.fd)));
  }
  auto header = read_header(file.fd);
  NW_TRY(header.status().within("block " + id.hex()));
  const size_t n = impl_->block_tokens();
  const auto tokens = std::span(hit.tokens_).subspan(i * n, n);
  if (header->id != id || (i > 0 && header->parent != hit.blocks_[i - 1]) ||
      !std::equal(tokens.begin(), tokens.end(), header->tokens.begin(), header->tokens.end())) {
    return bad_input(fmt::format("block {}: holds other tokens than its name says", id.hex()));
  }
  return read_payload(file.fd, *header, pieces).within("block " + id.hex());
}

Status KvStore::read_block(const Hit& hit, int i, std::span<std::byte> into) {
  return read_block(hit, i, std::span(&into, 1));
}

Status KvStore::read_frontier(const Hit& hit, std::span<const std::span<std::byte>> pieces) {
  auto header = read_header(hit.fd_);
  NW_TRY(header.status().within("frontier " + hit.frontier_.hex()));
  return read_payload(hit.fd_, *header, pieces).within("frontier " + hit.frontier_.hex());
}

Status KvStore::read_frontier(const Hit& hit, std::span<std::byte> into) {
  return read_frontier(hit, std::span(&into, 1));
}

void KvStore::discard(const Hit& hit) {
  Impl& s = *impl_;
  if (s.read_only()) {
    const std::lock_guard guard(s.read_mutex);
    // Forgotten in memory; the file is not ours to remove.
    if (const Status status = s.read_index.remove(std::span(&hit.frontier_, 1), {}); !status.ok()) {
      s.log(status.message());
    }
    return;
  }
  const std::lock_guard guard(s.write_mutex);
  const KvDir::Lock lock(s.dir, true);
  for (const KvId& id : hit.blocks_) {
    // Everything after a damaged block goes with it.
    if (s.repair_locked(id, true, true)) break;
  }
  s.remove_frontier_locked(hit.frontier_);
}

int64_t KvStore::stored_prefix(std::span<const int32_t> tokens) {
  const std::vector<KvId> ids = impl_->chain(tokens);
  const std::lock_guard guard(impl_->queue_mutex);
  size_t k = 1;
  while (k < ids.size() && impl_->known.contains(ids[k])) k++;
  return static_cast<int64_t>(k - 1) * impl_->block_tokens();
}

bool KvStore::wants_frontier(std::span<const int32_t> prefix, FrontierKind kind) {
  Impl& s = *impl_;
  if (s.read_only() || prefix.empty()) return false;
  const std::vector<KvId> ids = s.chain(prefix);
  const KvId id = frontier_id(ids.back(), prefix.subspan((ids.size() - 1) * s.block_tokens()));
  {
    const std::lock_guard guard(s.queue_mutex);
    if (s.queued_frontiers.contains(id)) return false;
  }
  const auto n = static_cast<int64_t>(prefix.size());
  if (n < s.options.min_frontier_gap) return false;
  const std::lock_guard guard(s.read_mutex);
  const bool stored = s.read_index.has_frontier(id);
  const int64_t last = s.read_index.last_frontier(ids, s.block_tokens(), prefix,
                                                  /*of_prefill=*/kind == FrontierKind::kPrefill);
  const bool near = kind != FrontierKind::kAnchor && n - last < s.options.min_frontier_gap;
  s.check_read_index_locked();
  return !stored && !near;
}

void KvStore::put_text(std::string_view rendered, std::span<const int32_t> tokens) {
  Impl& s = *impl_;
  const std::vector<KvId> ids = s.chain(tokens);
  const auto tail = tokens.subspan((ids.size() - 1) * s.block_tokens());
  TextRow row{ids.back(), {tail.begin(), tail.end()}};
  const XXH128_hash_t h =
      XXH3_128bits_withSeed(rendered.data(), rendered.size(), s.options.fingerprint);
  const auto n_bytes = static_cast<int64_t>(rendered.size());
  const bool has_parent = ids.size() > 1;
  s.enqueue(tail.size_bytes(), [&s, row = std::move(row), hash = KvId{h.high64, h.low64}, n_bytes,
                                has_parent] {
    const std::lock_guard guard(s.write_mutex);
    if (has_parent && !s.write_index.has_block(row.parent)) return;
    s.check_index(s.write_index.put_text(hash, s.options.fingerprint, n_bytes, row, s.now()));
  });
}

std::optional<KvStore::Text> KvStore::find_text(std::string_view rendered) {
  Impl& s = *impl_;
  const std::lock_guard guard(s.read_mutex);
  const auto lengths =
      s.read_index.text_lengths(s.options.fingerprint, static_cast<int64_t>(rendered.size()));
  struct Free {
    void operator()(XXH3_state_t* state) const { XXH3_freeState(state); }
  };
  const std::unique_ptr<XXH3_state_t, Free> state(XXH3_createState());
  XXH3_128bits_reset_withSeed(state.get(), s.options.fingerprint);
  std::vector<std::pair<int64_t, KvId>> candidates;
  size_t at = 0;
  for (int64_t length : lengths) {
    XXH3_128bits_update(state.get(), rendered.data() + at, static_cast<size_t>(length) - at);
    at = static_cast<size_t>(length);
    const XXH128_hash_t h = XXH3_128bits_digest(state.get());
    candidates.emplace_back(length, KvId{h.high64, h.low64});
  }
  std::optional<Text> found;
  for (size_t i = candidates.size(); !found && i-- > 0;) {
    const auto row = s.read_index.find_text(candidates[i].second);
    if (!row) continue;
    auto before = s.read_chain(row->parent, chain_root(s.options.fingerprint, s.block_tokens()));
    if (!before.ok()) continue;
    found = Text{static_cast<size_t>(candidates[i].first), std::move(before->tokens)};
    found->tokens.insert(found->tokens.end(), row->tail.begin(), row->tail.end());
  }
  s.check_read_index_locked();
  return found;
}

// The blocks up to `last`, and their tokens. These come from the files, where they are under a
// checksum.
Result<KvStore::Impl::Chain> KvStore::Impl::read_chain(KvId last, const KvId& root) {
  Chain chain;
  std::vector<std::vector<int32_t>> parts;
  while (last != root) {
    const Descriptor file{open_kv_file(dir.path_of(last, true))};
    if (file.fd < 0) return bad_input(fmt::format("block {} is gone", last.hex()));
    auto header = read_header(file.fd);
    NW_TRY(header.status().within("block " + last.hex()));
    if (header->id != last) return bad_input(fmt::format("block {} has another name", last.hex()));
    chain.blocks.push_back(last);
    parts.push_back(std::move(header->tokens));
    last = header->parent;
    if ((header->start == 0) != (last == root)) {
      return bad_input(fmt::format("block {} belongs to another chain", header->id.hex()));
    }
  }
  std::reverse(chain.blocks.begin(), chain.blocks.end());
  for (auto it = parts.rbegin(); it != parts.rend(); ++it) {
    chain.tokens.insert(chain.tokens.end(), it->begin(), it->end());
  }
  return chain;
}

std::optional<KvTurn> KvStore::find_turn(std::string_view key) {
  Impl& s = *impl_;
  {
    const std::lock_guard guard(s.queue_mutex);
    if (const auto it = s.queued_turns.find(key); it != s.queued_turns.end()) return *it->second;
  }
  std::optional<KvTurn> turn;
  {
    const std::lock_guard guard(s.read_mutex);
    turn = s.read_index.find_turn(s.options.fingerprint, key);
    s.check_read_index_locked();
  }
  if (turn) {
    s.enqueue(0, [&s, k = std::string(key)] {
      const std::lock_guard guard(s.write_mutex);
      s.check_index(s.write_index.touch_turn(s.options.fingerprint, k));
    });
  }
  return turn;
}

}  // namespace narwhal
