#include "backend/gpu/adopted.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "backend/host_backend.h"
#include "ops/ref/ref_ops.h"

namespace narwhal::gpu {
namespace {

constexpr int kSlots = 4;
constexpr int64_t kSlotBytes = 1000;

// A device with little memory, whose bus is slow: transfers happen when their slot is needed again,
// or on sync(). All that is written must be memory that is not released.
class Device : public HostBackend, public HostMemory, public Queue, public Staging::Bus {
 public:
  explicit Device(int64_t n_bytes) : n_free_(n_bytes) {}
  ~Device() override {
    EXPECT_TRUE(pending_.empty()) << "on their way to memory that is gone";
    adopted_.reset();
    EXPECT_TRUE(memory_.empty()) << "leaks";
  }
  AdoptedWeights& adopted() { return *adopted_; }
  // As a backend's destructor does.
  void close() { adopted_.reset(); }

  std::string_view name() const override { return "small"; }
  std::string description() const override { return "small"; }
  Ops& ops() override { return ops_; }
  Status prepare(const StepLimits&) override { return ok_status(); }
  int preferred_chunk() const override { return 1; }

  Result<std::byte*> allocate(int64_t n_bytes) override {
    if (n_bytes > n_free_) return no_memory("full");
    n_free_ -= n_bytes;
    auto bytes = std::make_unique<std::byte[]>(n_bytes);
    std::byte* const p = bytes.get();
    memory_[p] = {std::move(bytes), n_bytes};
    return p;
  }
  Result<std::byte*> allocate_unset(int64_t n_bytes) override { return allocate(n_bytes); }
  void release(std::byte* memory, int64_t n_bytes) override {
    if (!memory) return;
    while (!pending_.empty()) deliver();  // as cudaFree does
    n_free_ += n_bytes;
    EXPECT_EQ(memory_.erase(memory), 1u);
  }
  Result<std::byte*> allocate_host(int64_t n_bytes) override { return allocate(n_bytes); }
  void release_host(std::byte* memory, int64_t n_bytes) override { release(memory, n_bytes); }
  bool upload(const Upload& upload) override {
    staging_.start(upload);
    return true;
  }
  void finish_uploads() override { staging_.finish(); }
  int64_t most_staging() const override { return 3000; }

  void launch(KernelId, const void*, int64_t, int64_t, int) override { n_launches++; }
  int n_multiprocessors() const override { return 1; }
  void sync() override {
    while (!pending_.empty()) deliver();
  }

  std::byte* slot(int i) override { return slots_[i].data(); }
  void wait(int i) override {
    while (std::any_of(pending_.begin(), pending_.end(),
                       [&](const Transfer& t) { return t.slot == i; }))
      deliver();
  }
  void send(int i, std::byte* to, int64_t n_bytes) override {
    const auto block = memory_.upper_bound(to);
    ASSERT_NE(block, memory_.begin());
    const auto& [begin, b] = *std::prev(block);
    ASSERT_LE(to + n_bytes, begin + b.n_bytes) << "no memory of the device";
    pending_.push_back({i, to, n_bytes});
  }
  int n_launches = 0;

 private:
  struct Transfer {
    int slot;
    std::byte* to;
    int64_t n_bytes;
  };
  struct Block {
    std::unique_ptr<std::byte[]> bytes;
    int64_t n_bytes = 0;
  };
  void deliver() {
    const Transfer t = pending_.front();
    pending_.pop_front();
    std::memcpy(t.to, slots_[t.slot].data(), t.n_bytes);
  }
  RefOps ops_;
  int64_t n_free_;
  std::map<std::byte*, Block> memory_;
  std::vector<std::vector<std::byte>> slots_{kSlots, std::vector<std::byte>(kSlotBytes)};
  std::deque<Transfer> pending_;
  Staging staging_{*this, kSlots, kSlotBytes, 2};
  std::unique_ptr<AdoptedWeights> adopted_ = std::make_unique<AdoptedWeights>(*this, *this, *this);
};

// Weights, alternately as they are stored and packed.
class Adopted : public testing::Test {
 protected:
  Weight weight(int64_t n_out) {
    const DType type = stores_.size() % 2 == 0 ? DType::kF32 : DType::kQ8_0;
    std::vector<std::byte>& store = stores_.emplace_back(row_bytes(type, 32) * n_out);
    for (std::byte& b : store) b = static_cast<std::byte>(rng_());
    return {store.data(), type, 32, n_out, 1};
  }
  std::deque<std::vector<std::byte>> stores_;
  std::mt19937 rng_{5};
};

TEST_F(Adopted, AllIsThereWhenLoadingIsFinished) {
  Device device(1000000);
  device.adopted().begin();
  std::vector<Weight> sent, got;
  for (int i = 0; i < 20; i++) {
    sent.push_back(weight(i % 3 == 0 ? 1 : 100 + i));
    const auto adopted = device.adopted().adopt(sent.back(), Placement::kDevice);
    ASSERT_TRUE(adopted.ok());
    got.push_back(*adopted);
  }
  device.adopted().finish();
  for (size_t i = 0; i < sent.size(); i += 2)  // kernels do not run here
    EXPECT_EQ(std::memcmp(got[i].data, sent[i].data, sent[i].n_bytes()), 0) << i;
  EXPECT_GT(device.n_launches, 0);
}

TEST_F(Adopted, OutsideOfLoadingHostMemoryMayGoAtOnce) {
  Device device(1000000);
  for (int i = 0; i < 20; i++) {
    ASSERT_TRUE(device.adopted().adopt(weight(150), Placement::kDevice).ok());
    std::vector<std::byte>().swap(stores_.back());  // the sanitizer sees who still reads it
  }
  device.close();
}

// Wherever memory ends: for a weight, for the staging area.
TEST_F(Adopted, ALoadThatFailsMidwayEnds) {
  for (int64_t n_bytes = 0; n_bytes < 80000; n_bytes += 3100)
    for (const bool finishes : {true, false}) {
      SCOPED_TRACE(testing::Message() << n_bytes << " bytes, finishes: " << finishes);
      Device device(n_bytes);
      device.adopted().begin();
      Status status;
      for (int i = 0; i < 10 && status.ok(); i++)
        status = device.adopted().adopt(weight(100), Placement::kDevice).status();
      EXPECT_EQ(status.code(), Code::kNoMemory);
      if (finishes) {
        device.adopted().finish();
        stores_.clear();
      }
      device.close();
    }
}

}  // namespace
}  // namespace narwhal::gpu
