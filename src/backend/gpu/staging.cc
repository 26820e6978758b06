#include "backend/gpu/staging.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/threads.h"

namespace narwhal::gpu {
namespace {

constexpr int kMostThreads = 12;
constexpr int64_t kSmallestPiece = int64_t{512} << 10;  // a transfer costs as much as 100 KiB
constexpr int64_t kPiecesAlone = 16;

}  // namespace

// Faults of pages and copies wait for memory: two threads of a core get more done than one.
int Staging::threads_to_use() { return std::min(hardware_thread_count(), kMostThreads); }

int64_t Staging::Job::begin(int64_t piece) const {
  return piece / range_pieces * upload.range_bytes + piece % range_pieces * piece_bytes;
}

int64_t Staging::Job::size(int64_t piece) const {
  const int64_t at = begin(piece), range = upload.range_bytes;
  return std::min({piece_bytes, at / range * range + range - at, upload.n_bytes - at});
}

void Staging::stop() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  granted_.notify_all();
  for (std::thread& t : threads_) t.join();
  threads_.clear();
}

// Pieces are whole slots, which the bus likes best, but those of an upload with none before it are
// smaller, so that all threads have some.
Staging::Job Staging::cut(Upload upload) const {
  const int64_t n = upload.n_bytes, range = upload.range_bytes;
  Job job;
  job.first_piece = n_pieces_;
  job.piece_bytes = std::min(slot_bytes_, range);
  if (is_first_)
    job.piece_bytes = std::min(job.piece_bytes, std::max(n / kPiecesAlone, kSmallestPiece));
  job.range_pieces = (range + job.piece_bytes - 1) / job.piece_bytes;
  job.n_pieces = n / range * job.range_pieces + (n % range + job.piece_bytes - 1) / job.piece_bytes;
  job.upload = std::move(upload);
  return job;
}

void Staging::start(Upload upload) {
  if (upload.n_bytes <= 0) return;
  Job job = cut(std::move(upload));
  n_pieces_ += job.n_pieces;
  is_first_ = false;
  {
    std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
    for (int i = static_cast<int>(slots_.size()); i < n_slots_; i++) slots_.push_back(bus_.slot(i));
  }
  while (std::ssize(threads_) < n_threads_) threads_.emplace_back([this] { work(); });

  // So many transfers stay enqueued while their slots are waited for: the bus always has work.
  const int64_t ahead = n_slots_ - n_slots_ / 4;
  while (n_granted_ < n_pieces_) {
    if (n_granted_ < n_sent_ + ahead)
      grant_next();
    else
      send_next();
  }
  // The caller may be away for a while, to allocate memory for the next.
  while (n_sent_ < n_pieces_ && is_full(slot_of(n_sent_))) send_next();
}

void Staging::finish() {
  while (n_sent_ < n_pieces_) send_next();
  is_first_ = true;
}

void Staging::grant_next() {
  const int slot = slot_of(n_granted_);
  bus_.wait(slot);
  {
    std::lock_guard lock(mutex_);
    is_full_[slot] = false;
    n_granted_++;
  }
  granted_.notify_one();
}

bool Staging::is_full(int slot) {
  std::lock_guard lock(mutex_);
  return is_full_[slot];
}

void Staging::send_next() {
  const int slot = slot_of(n_sent_);
  {
    std::unique_lock lock(mutex_);
    filled_.wait(lock, [&] { return is_full_[slot]; });
  }
  const Job& job = jobs_.front();
  const Upload& upload = job.upload;
  const int64_t piece = n_sent_ - job.first_piece, at = job.begin(piece), size = job.size(piece);
  bus_.send(slot, upload.to(at), size);
  n_sent_++;
  const int64_t end = at + size;
  if (upload.sent && (end == upload.n_bytes || end % upload.range_bytes == 0)) upload.sent(end);
  if (piece + 1 == job.n_pieces) {
    std::lock_guard lock(mutex_);
    jobs_.pop_front();
  }
}

void Staging::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    granted_.wait(lock, [&] { return stop_ || n_taken_ < n_granted_; });
    if (stop_) return;
    const int64_t taken = n_taken_++;
    const Job& job = *std::find_if(jobs_.begin(), jobs_.end(), [&](const Job& j) {
      return taken < j.first_piece + j.n_pieces;
    });
    const int64_t piece = taken - job.first_piece, size = job.size(piece);
    const std::byte* const from = job.upload.host + job.begin(piece);
    const int slot = slot_of(taken);
    lock.unlock();
    std::memcpy(slots_[slot], from, static_cast<size_t>(size));
    lock.lock();
    is_full_[slot] = true;
    filled_.notify_one();
  }
}

}  // namespace narwhal::gpu
