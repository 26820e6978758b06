// What the host side of the CUDA backend does beyond what every backend does: choice of the device,
// order between its streams, recordings, pinned memory, faults.
#include "backend/cuda/cuda_backend.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <random>

#include "fake_cuda.h"
#include "narwhal/engine.h"
#include "stand_in.h"

namespace narwhal {
namespace {

using fake_cuda::counts;
using fake_cuda::Order;
using fake_cuda::settings;

class CudaBackend : public StandInTest {
 protected:
  CudaBackend() : StandInTest(make_cuda_backend) {}
  void SetUp() override {
    fake_cuda::reset();
    before_ = counts().n_objects;
  }
  void TearDown() override {
    close();
    EXPECT_EQ(counts().n_objects, before_) << "objects were not released";
    EXPECT_EQ(counts().device_bytes, 0);
    fake_cuda::reset();
  }

  int before_ = 0;
};

TEST_F(CudaBackend, IsChosenWhereThereIsAGpu) {
  EXPECT_EQ((*make_backend("auto", {}))->name(), "cuda");
  EXPECT_EQ(open().description(), "Fake H100, 4 GiB, compute capability 9.0");
  settings().n_devices = 0;
  EXPECT_EQ((*make_backend("auto", {}))->name(), "cpu");
}

TEST_F(CudaBackend, DevicesThatCannotBeUsedAreTold) {
  settings().n_devices = 0;
  refused("no GPU can be used: no CUDA-capable device is detected; install its driver or use");
  fake_cuda::reset();
  settings().major = 7;
  refused("Fake H100 has compute capability 7.0, expected 8.0 or later; use --backend cpu");
}

TEST_F(CudaBackend, LaunchesRunInOrderWithoutBeingWaitedFor) {
  open();
  float *const a = send({1, 2, 3}), *const b = send({1, 10, 100});
  const int waits = counts().n_waits;
  const int n = 1000;
  chain(backend_->ops(), n, a, b);
  EXPECT_EQ(counts().n_waits, waits);
  EXPECT_EQ(counts().n_launches, 2 * n);
  expect_chained(n, a);
}

// Steps of one key: as they are, recorded, replayed; with what memory holds then.
TEST_F(CudaBackend, StepsAreRecordedWhenTheyComeAgain) {
  open();
  float *const a = send({0}), *const b = send({1});
  const auto step = [&](int n_rows) {
    StepKey key{};
    key.n_rows = n_rows;
    backend_->run_step(key, [&] { backend_->ops().add(1, b, a); });
  };
  for (int i = 1; i <= 5; i++) {
    const float x = static_cast<float>(i);
    backend_->copy_in(b, &x, 4);
    step(1);
  }
  EXPECT_EQ(fetch(a, 1)[0], 15);
  EXPECT_EQ(counts().n_launches, 1);
  EXPECT_EQ(counts().n_recorded, 1);
  EXPECT_EQ(counts().n_replays, 4);
  for (int i = 0; i < 3; i++) step(1000);  // too large to be worth it
  EXPECT_EQ(fetch(a, 1)[0], 30);
  EXPECT_EQ(counts().n_recorded, 1);
}

// More than goes through all slots: what was launched before sees the old values, what comes after
// the new ones, and the host's memory is free again.
TEST_F(CudaBackend, LargeCopiesTakeTheirPlaceAmongLaunches) {
  const int64_t n = 12 << 20;
  for (const Order order : {Order::kLate, Order::kEarly, Order::kRandom}) {
    SCOPED_TRACE(static_cast<int>(order));
    settings().order = order;
    open();
    float *const x = send(std::vector<float>(n, 1)), *const sum = send({0, 0});
    for (const float value : {10.0f, 100.0f}) {
      std::vector<float> values(n, value);
      backend_->ops().add(1, x, sum);
      backend_->ops().add(1, x + n - 1, sum + 1);
      backend_->copy_in(x, values.data(), n * 4);
      std::fill(values.begin(), values.end(), NAN);
      backend_->ops().add(1, x, sum);
      backend_->ops().add(1, x + n - 1, sum + 1);
    }
    const float want = 1 + 10 + 10 + 100;
    EXPECT_EQ(fetch(sum, 2), (std::vector<float>{want, want}));
    EXPECT_EQ(fetch(x, n), std::vector<float>(n, 100));
    close();
  }
}

// Blocks are split on the device while the next are on their way to it: no block may come before
// its place is free, no split before its blocks. 126 MiB in weights that are smaller and larger
// than the places where they wait.
TEST_F(CudaBackend, WeightsAreSplitWhenTheirBlocksAreThere) {
  constexpr int64_t kIn = 256, kOut = 1024, kExperts[] = {70, 500, 1, 900, 70};
  const int64_t block_bytes = row_bytes(DType::kQ2_K, kIn), matrix_bytes = block_bytes * kOut;
  const int64_t n_matrices = std::accumulate(std::begin(kExperts), std::end(kExperts), int64_t{0});
  std::vector<std::byte> bytes(matrix_bytes * n_matrices);
  std::mt19937_64 rng(4);
  for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    const uint64_t word = rng();
    std::memcpy(&bytes[i], &word, 8);
  }
  for (const Order order : {Order::kLate, Order::kEarly, Order::kRandom}) {
    SCOPED_TRACE(static_cast<int>(order));
    settings().order = order;
    open();
    backend_->begin_loading();
    std::vector<const std::byte*> matrices;
    int64_t at = 0;
    for (const int64_t n : kExperts) {
      const auto w = backend_->adopt({&bytes[at], DType::kQ2_K, kIn, kOut, n}, Placement::kDevice);
      ASSERT_TRUE(w.ok());
      for (int64_t e = 0; e < n; e++) matrices.push_back(w->data + e * matrix_bytes);
      at += n * matrix_bytes;
    }
    backend_->finish_loading();
    // The bus does not stand still while blocks are split.
    if (order == Order::kEarly) {
      EXPECT_GT(counts().n_copies_ahead, 20);
    }
    // The last plane, of the last four bytes of every block; of some matrices of every copy.
    std::vector<std::byte> plane(4 * kOut);
    for (int64_t i = 0; i < n_matrices; i += 11) {
      backend_->copy_out(plane.data(), matrices[i] + 80 * kOut, 4 * kOut);
      for (int64_t block = 0; block < kOut; block++)
        ASSERT_EQ(std::memcmp(&plane[4 * block], &bytes[(i * kOut + block) * block_bytes + 80], 4),
                  0)
            << "matrix " << i << ", block " << block;
    }
    close();
  }
}

TEST_F(CudaBackend, HostMemoryIsPinnedOneWayOrTheOther) {
  for (const bool registers : {true, false}) {
    settings().registers_host_memory = registers;
    open();
    std::vector<float> values(5000, 3);
    const auto weight = backend_->adopt(
        {reinterpret_cast<const std::byte*>(values.data()), DType::kF32, 5000}, Placement::kHost);
    ASSERT_TRUE(weight.ok());
    EXPECT_EQ(fetch(reinterpret_cast<const float*>(weight->data), 5000), values);
    close();
  }
}

TEST_F(CudaBackend, RefusedMemoryIsTold) {
  settings().memory_bytes = int64_t{64} << 20;
  open();
  const auto refused = backend_->allocate(65 << 20);
  EXPECT_EQ(refused.status().code(), Code::kNoMemory);
  EXPECT_NE(refused.status().message().find("65 MiB of GPU memory are not free (out of memory)"),
            std::string::npos);
  const auto taken = backend_->allocate(64 << 20);  // a refusal is no fault
  ASSERT_TRUE(taken.ok());
  EXPECT_EQ(*backend_->device_memory(), 0u);
  backend_->release(*taken, 0);
}

// What the plan says is what is taken.
TEST_F(CudaBackend, ThePlanCountsTheDevicesMemory) {
  auto engine = Engine::open({.backend = "cuda", .n_ctx = 1024});
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  const auto taken = static_cast<double>(counts().device_bytes);
  EXPECT_LT(taken, static_cast<double>((*engine)->plan().total_bytes) + (64 << 20));
  EXPECT_GT(taken, static_cast<double>((*engine)->plan().weights_bytes));
}

TEST_F(CudaBackend, FaultsOfTheDeviceEndTheProcessAtTheNextWait) {
  expect_end_at_the_next_wait([] { settings().failing_launch = 1; },
                              "the GPU failed \\(.*\\): an illegal memory access was encountered");
}

}  // namespace
}  // namespace narwhal
