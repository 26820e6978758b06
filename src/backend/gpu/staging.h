// Staging: bytes of a mapped file on their way to a device. A bus takes them from pinned memory
// only, and several times as fast as one core copies there, page faults included. So threads fill
// slots of pinned memory while what was filled before is on the bus.
//
//   Staging staging(bus, 16, 2 << 20, 12);
//   staging.start({file.data(), file.size(), file.size(), to, sent});
//   staging.start(...);  // sends what is left of the first
//   staging.finish();    // and of the last
//
//   uploads | piece 0 | piece 1 | piece 2 | ...      each to the next slot, in a ring
//   threads   fill      fill      fill               in any order, several at once
//   caller    send      send      send               in this order
//
// Pieces are numbered through all uploads: threads fill the first ones of an upload while the last
// ones of the upload before are sent, or the bus would stand still between any two.
//
// One caller at a time. The threads start with the first upload and sleep when there is none.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace narwhal::gpu {

// Bytes of the host on their way to the device. The functions own what they use: they are called
// when the caller of start() may be long gone, by whoever calls start() or finish() then, neither
// of which they may call.
struct Upload {
  const std::byte* host;
  int64_t n_bytes;
  int64_t range_bytes;
  // Where byte `at` goes; the bytes of a range [i * range_bytes, (i + 1) * range_bytes) stay
  // together. A range may go where the last but one went, as soon as that one's `sent` was called.
  std::function<std::byte*(int64_t at)> to;
  // All copies of the range up to `end` are enqueued. May be empty.
  std::function<void(int64_t end)> sent;
};

class Staging {
 public:
  // What takes the slots on; called by the caller's thread.
  class Bus {
   public:
    virtual ~Bus() = default;
    virtual std::byte* slot(int i) = 0;
    // Until nothing that was sent from slot i needs it any more.
    virtual void wait(int i) = 0;
    // The first n_bytes of slot i go to the device's memory. Returns when the transfer is enqueued.
    virtual void send(int i, std::byte* to, int64_t n_bytes) = 0;
  };

  Staging(Bus& bus, int n_slots, int64_t slot_bytes, int n_threads)
      : bus_(bus),
        n_slots_(n_slots),
        slot_bytes_(slot_bytes),
        n_threads_(n_threads),
        is_full_(n_slots) {}
  ~Staging() { stop(); }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Threads for this machine: as many as a bus of 60 GB/s may need.
  static int threads_to_use();

  // Sends the upload in order, in pieces that do not cross its ranges, but the last pieces, up to
  // as many as there are slots, only with the next call. Its host memory must stay until then.
  void start(Upload upload);
  // Returns when all is sent, so that host memory may be reused; slots may still be on their way.
  void finish();
  // Ends the threads; what was not sent never is. Slots and host memory may go then.
  void stop();

 private:
  struct Job {
    Upload upload;
    int64_t first_piece = 0, n_pieces = 0;
    int64_t piece_bytes = 1, range_pieces = 1;
    int64_t begin(int64_t piece) const;
    int64_t size(int64_t piece) const;
  };
  Job cut(Upload upload) const;
  void grant_next();
  void send_next();
  bool is_full(int slot);
  void work();
  int slot_of(int64_t piece) const { return static_cast<int>(piece % n_slots_); }

  Bus& bus_;
  const int n_slots_;
  const int64_t slot_bytes_;
  const int n_threads_;
  std::vector<std::thread> threads_;
  int64_t n_pieces_ = 0, n_sent_ = 0;  // of all uploads
  bool is_first_ = true;               // no upload since finish()

  std::mutex mutex_;  // guards what follows; what only the caller changes it reads without
  std::condition_variable granted_, filled_;
  std::deque<Job> jobs_;  // with pieces to be sent
  std::vector<std::byte*> slots_;
  int64_t n_granted_ = 0, n_taken_ = 0;  // pieces whose slots are free; that threads have begun
  std::vector<bool> is_full_;            // by slot
  bool stop_ = false;
};

}  // namespace narwhal::gpu
