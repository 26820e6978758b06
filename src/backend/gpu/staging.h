// Staging: bytes of a mapped file on their way to a device. A bus takes them from pinned memory
// only, and several times as fast as one core copies there, page faults included. So threads fill
// slots of pinned memory while what was filled before is on the bus.
//
//   Staging staging(16, 2 << 20, 8);
//   staging.run(file.data(), file.size(), file.size(), bus);
//
//   file    | piece 0 | piece 1 | piece 2 | ...      each to the next slot, in a ring
//   threads   fill      fill      fill               in any order, several at once
//   caller    send      send      send               in this order
//
// One caller at a time. The threads start with the first run and sleep between runs.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace narwhal::gpu {

class Staging {
 public:
  // What takes the slots on; called by the thread that called run().
  class Bus {
   public:
    virtual ~Bus() = default;
    virtual std::byte* slot(int i) = 0;
    // Until nothing that was sent from slot i needs it any more.
    virtual void wait(int i) = 0;
    // Slot i holds bytes [at, at + n_bytes) of the run. Returns when the transfer is enqueued.
    virtual void send(int i, int64_t at, int64_t n_bytes) = 0;
  };

  Staging(int n_slots, int64_t slot_bytes, int n_threads)
      : n_slots_(n_slots), slot_bytes_(slot_bytes), n_threads_(n_threads), is_full_(n_slots) {}
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Threads for this machine: as many as a bus of 60 GB/s may need.
  static int threads_to_use();

  // Sends host[0, n_bytes) in order, in pieces that do not cross multiples of range_bytes; returns
  // when all are sent, so `host` may be reused, and slots may still be on their way.
  void run(const std::byte* host, int64_t n_bytes, int64_t range_bytes, Bus& bus);

 private:
  // Pieces of a run. Those of small weights are small, so that all threads have some.
  struct Job {
    const std::byte* host = nullptr;
    int64_t n_bytes = 0, range_bytes = 1, piece_bytes = 1, range_pieces = 1;
    int64_t n_pieces() const;
    int64_t begin(int64_t piece) const;
    int64_t size(int64_t piece) const;
  };
  void work();
  int slot_of(int64_t piece) const { return static_cast<int>((first_slot_ + piece) % n_slots_); }

  const int n_slots_;
  const int64_t slot_bytes_;
  const int n_threads_;
  std::vector<std::thread> threads_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable granted_, filled_;
  Job job_;
  int64_t first_slot_ = 0;  // of piece 0
  std::vector<std::byte*> slots_;
  int64_t n_granted_ = 0, n_taken_ = 0;  // pieces whose slots are free; that threads have begun
  std::vector<bool> is_full_;            // by slot
  bool stop_ = false;
};

}  // namespace narwhal::gpu
