#include "backend/gpu/staging.h"

#include <algorithm>
#include <cstring>

#include "base/threads.h"

namespace narwhal::gpu {
namespace {

constexpr int kMostThreads = 12;
constexpr int64_t kSmallestPiece = int64_t{512} << 10;  // a transfer costs as much as 100 KiB
constexpr int64_t kPiecesOfARun = 16;

}  // namespace

// Faults of pages and copies wait for memory: two threads of a core get more done than one.
int Staging::threads_to_use() { return std::min(hardware_thread_count(), kMostThreads); }

int64_t Staging::Job::n_pieces() const {
  const int64_t rest = n_bytes % range_bytes;
  return n_bytes / range_bytes * range_pieces + (rest + piece_bytes - 1) / piece_bytes;
}

int64_t Staging::Job::begin(int64_t piece) const {
  return piece / range_pieces * range_bytes + piece % range_pieces * piece_bytes;
}

int64_t Staging::Job::size(int64_t piece) const {
  const int64_t at = begin(piece), range_end = at / range_bytes * range_bytes + range_bytes;
  return std::min({piece_bytes, range_end - at, n_bytes - at});
}

Staging::~Staging() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  granted_.notify_all();
  for (std::thread& t : threads_) t.join();
}

void Staging::run(const std::byte* host, int64_t n_bytes, int64_t range_bytes, Bus& bus) {
  if (n_bytes <= 0) return;
  Job job{host, n_bytes, range_bytes};
  job.piece_bytes =
      std::min({slot_bytes_, range_bytes, std::max(n_bytes / kPiecesOfARun, kSmallestPiece)});
  job.range_pieces = (range_bytes + job.piece_bytes - 1) / job.piece_bytes;
  const int64_t n_pieces = job.n_pieces();
  {
    std::lock_guard lock(mutex_);
    first_slot_ = slot_of(n_taken_);  // of the run before: the ring goes on
    job_ = job;
    n_granted_ = n_taken_ = 0;
    slots_.resize(n_slots_);
    for (int i = 0; i < n_slots_; i++) slots_[i] = bus.slot(i);
  }
  while (std::ssize(threads_) < n_threads_) threads_.emplace_back([this] { work(); });

  // So many transfers stay enqueued while their slots are waited for: the bus always has work.
  const int64_t ahead = n_slots_ - n_slots_ / 4;
  int64_t n_granted = 0;
  for (int64_t piece = 0; piece < n_pieces; piece++) {
    for (; n_granted < std::min(n_pieces, piece + ahead); n_granted++) {
      bus.wait(slot_of(n_granted));
      {
        std::lock_guard lock(mutex_);
        is_full_[slot_of(n_granted)] = false;
        n_granted_ = n_granted + 1;
      }
      granted_.notify_one();
    }
    const int slot = slot_of(piece);
    {
      std::unique_lock lock(mutex_);
      filled_.wait(lock, [&] { return is_full_[slot]; });
    }
    bus.send(slot, job.begin(piece), job.size(piece));
  }
}

void Staging::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    granted_.wait(lock, [&] { return stop_ || n_taken_ < n_granted_; });
    if (stop_) return;
    const int64_t piece = n_taken_++;
    const int slot = slot_of(piece);
    const std::byte* const from = job_.host + job_.begin(piece);
    const int64_t size = job_.size(piece);
    lock.unlock();
    std::memcpy(slots_[slot], from, static_cast<size_t>(size));
    lock.lock();
    is_full_[slot] = true;
    filled_.notify_one();
  }
}

}  // namespace narwhal::gpu
