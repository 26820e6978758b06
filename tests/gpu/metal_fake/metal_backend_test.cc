// What the host side of the Metal backend does beyond what every backend does: choice of the
// device, the library, memory in place, command buffers, faults.
#include "backend/metal/metal_backend.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "backend/metal/pool.h"
#include "fake_metal.h"
#include "narwhal/engine.h"
#include "ops/ref/ref_ops.h"
#include "quant/quant.h"
#include "stand_in.h"

namespace narwhal {
namespace {

using fake_metal::counts;
using fake_metal::settings;

class MetalBackend : public StandInTest {
 protected:
  MetalBackend() : StandInTest(make_metal_backend) {}
  void SetUp() override {
    settings() = {};
    before_ = counts().n_objects;
  }
  void TearDown() override {
    close();
    EXPECT_EQ(counts().n_objects, before_) << "objects were not released";
    EXPECT_EQ(counts().buffer_bytes, 0);
    EXPECT_EQ(counts().mapped_bytes, 0);
    settings() = {};
  }
  std::vector<float> random(int64_t n) {
    std::normal_distribution<float> normal;
    std::vector<float> v(n);
    for (float& x : v) x = normal(rng_);
    return v;
  }

  std::mt19937 rng_{3};
  int before_ = 0;
};

TEST_F(MetalBackend, IsChosenWhereThereIsAGpu) {
  EXPECT_EQ((*make_backend("auto", {}))->name(), "metal");
  EXPECT_EQ(open().name(), "metal");
  EXPECT_EQ(backend_->description(), "Fake M1, 16 GiB for the GPU");
  settings().has_device = false;
  EXPECT_EQ((*make_backend("auto", {}))->name(), "cpu");
  EXPECT_EQ(make_backend("metal", {}).status().code(), Code::kFailed);
}

TEST_F(MetalBackend, DevicesThatCannotBeUsedAreTold) {
  settings().has_device = false;
  refused("no GPU found; use --backend cpu");
  settings() = {.macos = 13};
  refused("macOS 13.3, expected 14 or later");
  settings() = {.is_apple = false};
  refused("the GPU is Fake Radeon, expected one of Apple");
}

TEST_F(MetalBackend, FaultsOfTheLibraryAreTold) {
  settings().compile_error = "program_source:12: error: no";
  refused("do not compile, use --backend cpu: program_source:12: error: no");
  settings() = {.missing_kernel = "nw_add"};
  refused("lacks the kernel add");
  settings() = {.broken_kernel = "nw_top_k"};
  refused("kernel top_k cannot be made for this GPU: Compiler encountered");
  settings() = {.simd_width = 16};
  refused("16 lanes wide, expected 32");
  settings() = {.max_threads = 128};
  refused("needs 256 threads a group, this GPU runs 128");
  settings() = {};
  open();
  EXPECT_FALSE(counts().fast_math);
}

TEST_F(MetalBackend, LaunchesRunInOrderWithoutBeingWaitedFor) {
  open();
  float *const a = send({1, 2, 3}), *const b = send({1, 10, 100});
  const int64_t buffers = counts().n_command_buffers, dispatches = counts().n_dispatches;
  const int n = 5000;
  chain(backend_->ops(), n, a, b);
  EXPECT_LE(counts().n_commits_before_wait, 17);
  expect_chained(n, a);
  EXPECT_EQ(counts().n_dispatches - dispatches, 2 * n);
  EXPECT_EQ(counts().n_command_buffers - buffers, 1 + (2 * n - 32 + 127) / 128);
}

TEST_F(MetalBackend, CopiesTakeTheirPlaceAmongLaunches) {
  open();
  float *const a = send({0}), *const b = send({1});
  backend_->ops().add(1, b, a);
  const float ten = 10;
  backend_->copy_in(b, &ten, 4);  // the launch before sees 1
  backend_->ops().add(1, b, a);
  backend_->copy_device(b, a, 4);
  backend_->ops().add(1, b, a);
  EXPECT_EQ(fetch(a, 1)[0], 22);
}

TEST_F(MetalBackend, MemoryMayComeAndGoBetweenLaunches) {
  open();
  const int64_t large = metal::Pool::kSlabBytes;
  float* const a = send({1});
  for (int i = 0; i < 3; i++) {
    auto* const fresh = reinterpret_cast<float*>(*backend_->allocate(large));
    backend_->ops().add(1, a, fresh);
    auto* const other = reinterpret_cast<float*>(*backend_->allocate(large));  // in an open pass
    backend_->ops().add(1, fresh, other);
    backend_->ops().add(1, other, a);
    EXPECT_EQ(fetch(other + 1, 1000), std::vector<float>(1000));
    backend_->release(reinterpret_cast<std::byte*>(fresh), large);
  }
  EXPECT_EQ(fetch(a, 1)[0], 8);
}

TEST_F(MetalBackend, RefusedMemoryIsTold) {
  settings().working_set = 64 << 20;
  settings().largest_buffer = 32 << 20;
  open();
  const auto too_large = backend_->allocate(33 << 20);
  EXPECT_EQ(too_large.status().code(), Code::kNoMemory);
  EXPECT_NE(too_large.status().message().find("33 MiB (32 MiB at most"), std::string::npos);
  EXPECT_EQ(*backend_->device_memory(), 64u << 20);
  ASSERT_TRUE(backend_->allocate(32 << 20).ok());
  EXPECT_EQ(*backend_->device_memory(), 32u << 20);
  ASSERT_TRUE(backend_->allocate(32 << 20).ok());
  EXPECT_EQ(backend_->allocate(1).status().code(), Code::kNoMemory);
}

// A weight of more than 16 MiB, which repeats the same values.
struct Stored {
  static constexpr int64_t kIn = 512, kOut = 640, kRows = 200;  // rows before they repeat
  Stored(DType type, const std::vector<float>& values) {
    const std::vector<float> importance(kIn, 1.0f);
    const int64_t size = row_bytes(type, kIn), n_experts = (17 << 20) / (size * kOut) + 1;
    bytes.resize(size * kOut * n_experts);
    for (int64_t r = 0; r < kOut * n_experts; r++)
      if (r < kRows)
        quant::encode_row(type, &values[r * kIn], kIn, importance.data(), &bytes[r * size]);
      else
        std::memcpy(&bytes[r * size], &bytes[r % kRows * size], size);
    w = {bytes.data(), type, kIn, kOut, n_experts};
  }
  std::vector<std::byte> bytes;
  Weight w;
};

TEST_F(MetalBackend, PlainWeightsStayInPlaceOthersArePackedFromThere) {
  const auto values = random(Stored::kIn * Stored::kRows);
  const auto x = random(70 * Stored::kIn);
  for (const bool maps : {true, false})
    for (const DType type : {DType::kF16, DType::kF32, DType::kQ8_0, DType::kQ2_K}) {
      settings().maps_host_memory = maps;
      open();
      ASSERT_TRUE(backend_->prepare({.n_rows = 70, .max_width = Stored::kIn}).ok());
      const int64_t before = counts().buffer_bytes;
      const Stored stored(type, values);
      const bool plain = type == DType::kF16 || type == DType::kF32;
      const auto adopted = backend_->adopt(stored.w, Placement::kDevice);
      ASSERT_TRUE(adopted.ok());
      const int64_t size = std::ssize(stored.bytes);
      if (plain && maps) {
        EXPECT_GE(counts().mapped_bytes, size);
        EXPECT_LT(counts().mapped_bytes, size + 2 * (64 << 10));
        EXPECT_EQ(counts().buffer_bytes, before);
      } else {
        EXPECT_EQ(counts().mapped_bytes, 0);
        EXPECT_GE(counts().buffer_bytes - before, size);
      }
      EXPECT_EQ((*backend_->adopt(stored.w, Placement::kDevice)).data, adopted->data);

      // Rows one by one and in tiles; the last expert, so that the way there is right, too.
      Weight last = *adopted;
      last.n_experts = 1;
      last.data += adopted->matrix_bytes() * (stored.w.n_experts - 1);
      for (const int n : {1, 70}) {
        float* const input = send({x.begin(), x.begin() + n * Stored::kIn});
        float* const output = send(std::vector<float>(n * Stored::kOut));
        backend_->ops().matmul(last, n, input, output);
        const auto got = fetch(output, n * Stored::kOut);
        std::vector<float> want(n * Stored::kOut);
        RefOps().matmul(stored.w.expert(stored.w.n_experts - 1), n, x.data(), want.data());
        for (size_t i = 0; i < want.size(); i++)
          ASSERT_NEAR(got[i], want[i], 0.05) << dtype_name(type) << " " << i;
      }
      close();
    }
}

TEST_F(MetalBackend, SmallWeightsShareABuffer) {
  open();
  std::vector<std::vector<float>> vectors(50, random(100));
  for (const auto& v : vectors)
    ASSERT_TRUE(backend_
                    ->adopt({reinterpret_cast<const std::byte*>(v.data()), DType::kF32, 100},
                            Placement::kDevice)
                    .ok());
  EXPECT_EQ(counts().mapped_bytes, 0);
  EXPECT_EQ(counts().buffer_bytes, metal::Pool::kSlabBytes);
}

TEST_F(MetalBackend, ThePlanKeepsToWhatTheGpuMayUse) {
  settings().working_set = uint64_t{1} << 30;
  const auto available = [](int64_t gpu_memory_mb) {
    const auto plan =
        Engine::inspect({.backend = "metal", .n_ctx = 512, .gpu_memory_mb = gpu_memory_mb});
    EXPECT_TRUE(plan.ok());
    EXPECT_EQ(plan->second.host_weights_bytes, 0u);
    return plan->second.available_bytes;
  };
  EXPECT_EQ(available(0), uint64_t{1} << 30);
  EXPECT_EQ(available(100), uint64_t{100} << 20);
  EXPECT_EQ(available(5000), uint64_t{1} << 30);
  const auto tight = Engine::open({.backend = "metal", .n_ctx = 512, .gpu_memory_mb = 2});
  EXPECT_EQ(tight.status().code(), Code::kNoMemory);
}

// What the plan says is what is taken.
TEST_F(MetalBackend, ThePlanCountsEveryBuffer) {
  auto engine = Engine::open({.backend = "metal", .n_ctx = 1024});
  ASSERT_TRUE(engine.ok()) << engine.status().message();
  const auto taken = static_cast<double>(counts().buffer_bytes + counts().mapped_bytes);
  const auto planned = static_cast<double>((*engine)->plan().total_bytes);
  // Frontiers that are kept lie in memory of the host; slabs are not always full.
  EXPECT_LT(taken, planned + 2.0 * metal::Pool::kSlabBytes);
  EXPECT_GT(taken, static_cast<double>((*engine)->plan().weights_bytes));
  auto session = *(*engine)->new_session();
  const std::vector<int32_t> prompt{1, 2, 3, 4};
  EXPECT_TRUE(session->sync(prompt).ok());
  EXPECT_TRUE(std::isfinite(session->logits()[0]));
}

TEST_F(MetalBackend, FaultsOfTheDeviceEndTheProcessAtTheNextWait) {
  expect_end_at_the_next_wait([] { settings().failing_buffer = 1; },
                              "the GPU failed: Caused GPU Address Fault Error");
}

}  // namespace
}  // namespace narwhal
