// Weights on the device are the file's in planes (kernels/weights.h).
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "backend/gpu/packed.h"
#include "devices.h"

namespace narwhal {
namespace {

struct Plane {
  int begin, width;  // bytes within a block
};

std::vector<Plane> planes_of(DType type) {
  switch (type) {
    case DType::kQ8_0:
      return {{2, 32}, {0, 2}};
    case DType::kQ4_K:
      return {{16, 128}, {0, 16}};
    case DType::kQ2_K:
      return {{16, 64}, {0, 16}, {80, 4}};
    case DType::kIQ2_XXS:
      return {{2, 64}, {0, 2}};
    case DType::kMXFP4:
      return {{1, 16}, {0, 1}};
    default:
      return {{0, dtype_info(type).block_bytes}};
  }
}

// The scales of Q2_K by unit and run: run s of unit 2a + h is columns 128 a + 32 s + 16 h of the
// block.
void scales_by_unit(std::byte* block) {
  std::byte out[16];
  for (int a = 0; a < 2; a++)
    for (int h = 0; h < 2; h++)
      for (int s = 0; s < 4; s++)
        out[(2 * a + h) * 4 + s] = block[(128 * a + 32 * s + 16 * h) / 16];
  std::memcpy(block, out, 16);
}
// A bit of the scale and the signs of IQ2_XXS in every byte of a group's second word.
void signs_in_bytes(std::byte* block) {
  for (int group = 0; group < 8; group++) {
    uint32_t packed;
    std::memcpy(&packed, block + 8 * group + 4, 4);
    for (int i = 0; i < 4; i++)
      block[8 * group + 4 + i] =
          static_cast<std::byte>((packed >> 7 * i) % 128 * 2 + (packed >> (28 + i)) % 2);
  }
}

// Packed memory of one matrix as it should be; what no block goes to stays as it is.
std::vector<std::byte> planes(const Weight& w, std::vector<std::byte> packed) {
  const int block_bytes = dtype_info(w.type).block_bytes, stripe = gpu::stripe_rows(w.type);
  const int64_t across = w.matrix_bytes() / w.n_out / block_bytes;
  const int64_t n_rows = (w.n_out + stripe - 1) / stripe * stripe;
  std::byte* plane = packed.data();
  for (const Plane& p : planes_of(w.type)) {
    for (int64_t row = 0; row < w.n_out; row++)
      for (int64_t b = 0; b < across; b++) {
        std::byte* to = plane + ((row / stripe * across + b) * stripe + row % stripe) * p.width;
        std::memcpy(to, w.data + (row * across + b) * block_bytes + p.begin, p.width);
        if (w.type == DType::kQ2_K && p.width == 16) scales_by_unit(to);
        if (w.type == DType::kIQ2_XXS && p.width == 64) signs_in_bytes(to);
      }
    plane += n_rows * across * p.width;
  }
  return packed;
}

class Load : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override { backend_ = *make_backend(GetParam(), {}); }
  // Random bytes, `shift` bytes behind 16 aligned ones.
  Weight weight(DType type, int64_t n_in, int64_t n_out, int64_t n_experts, int shift = 0) {
    const int64_t n_bytes = row_bytes(type, n_in) * n_out * n_experts;
    std::vector<std::byte>& store = stores_.emplace_back(n_bytes + 64);  // kept: a backend knows
    for (std::byte& b : store) b = static_cast<std::byte>(rng_());       // weights by address
    const auto address = reinterpret_cast<uintptr_t>(store.data());
    return {store.data() + (16 - address % 16) + shift, type, n_in, n_out, n_experts};
  }
  void check(const Weight& w, Placement where) {
    const auto adopted = backend_->adopt(w, where);
    ASSERT_TRUE(adopted.ok()) << adopted.status().message();
    check_same(w, *adopted);
  }
  void check_same(const Weight& w, const Weight& adopted) {
    SCOPED_TRACE(testing::Message() << dtype_name(w.type) << " " << w.n_in << " x " << w.n_out
                                    << " x " << w.n_experts);
    std::vector<std::byte> got(gpu::packed_matrix_bytes(w.type, w.n_in, w.n_out));
    for (int64_t e = 0; e < w.n_experts; e++) {
      backend_->copy_out(got.data(), adopted.data + e * std::ssize(got), std::ssize(got));
      ASSERT_TRUE(got == planes(w.expert(e), got)) << "matrix " << e;
    }
  }
  std::unique_ptr<Backend> backend_;
  std::vector<std::vector<std::byte>> stores_;
  std::mt19937 rng_{3};
};

constexpr DType kTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16,    DType::kQ8_0,
                            DType::kQ4_K, DType::kQ2_K, DType::kIQ2_XXS, DType::kMXFP4};

TEST_P(Load, PlanesOfEveryType) {
  for (const DType type : kTypes) {
    const int n = dtype_info(type).block_elements;
    for (const auto& [n_in, n_out, n_experts] : {std::tuple{n, 1, 1},
                                                 {n, 1, 3},
                                                 {n, 33, 1},
                                                 {2 * n, 17, 5},
                                                 {3 * n, 257, 1},
                                                 {n, 300, 9},
                                                 {4 * n, 128, 4}})
      for (const Placement where : {Placement::kDevice, Placement::kHost})
        for (const int shift : {0, 2, 5}) {
          if (where == Placement::kHost && !backend_->reads_host_memory()) continue;
          check(weight(type, n_in, n_out, n_experts, shift), where);
        }
  }
}

// More than all the slots and the staging area hold.
TEST_P(Load, LargeStacks) {
  const bool maps = GetParam() == "metal";
  const int64_t mib = GetParam() == "emu" ? 1 : maps ? 20 : 150;
  for (const DType type : {DType::kF16, DType::kQ8_0, DType::kQ2_K, DType::kMXFP4}) {
    backend_->begin_loading();
    if (maps && type == DType::kF16) continue;  // stays where it lies
    const int64_t row = row_bytes(type, 1024);
    check(weight(type, 1024, (mib << 20) / row / 7, 7), Placement::kDevice);
    backend_->finish_loading();
  }
}

// Weights, small ones between large ones, some as they are stored, all looked at only when the last
// has been sent; as a model is loaded and one by one.
TEST_P(Load, ManyWeightsFollowEachOther) {
  for (const bool is_loading : {true, false, true}) {
    SCOPED_TRACE(is_loading);
    std::vector<Weight> sent, got;
    if (is_loading) backend_->begin_loading();
    for (int i = 0; i < 60; i++) {
      const DType type = kTypes[i % std::size(kTypes)];
      const int64_t n_out = i % 3 == 0 ? 2 : 400;
      const bool on_host = i % 7 == 0 && backend_->reads_host_memory();
      sent.push_back(weight(type, 256, n_out, i % 5 == 0 ? 3 : 1));
      const auto adopted =
          backend_->adopt(sent.back(), on_host ? Placement::kHost : Placement::kDevice);
      ASSERT_TRUE(adopted.ok());
      got.push_back(*adopted);
    }
    if (is_loading) backend_->finish_loading();
    for (size_t i = 0; i < sent.size(); i++) check_same(sent[i], got[i]);
  }
}

// Copies between adopt()s find what came before them, and what they copy is there at once.
TEST_P(Load, CopiesWhileAModelIsLoaded) {
  std::byte* const memory = *backend_->allocate(3000000);
  std::vector<Weight> sent, got;
  backend_->begin_loading();
  for (int i = 0; i < 6; i++) {
    sent.push_back(weight(DType::kQ4_K, 512, 300, 2));
    got.push_back(*backend_->adopt(sent.back(), Placement::kDevice));
    const int64_t n_bytes = i % 2 == 0 ? 100 : 3000000;
    std::vector<std::byte> bytes(n_bytes, static_cast<std::byte>(i));
    backend_->copy_in(memory, bytes.data(), n_bytes);
    std::fill(bytes.begin(), bytes.end(), std::byte{0xee});
    backend_->copy_out(bytes.data(), memory, n_bytes);
    EXPECT_EQ(bytes, std::vector<std::byte>(n_bytes, static_cast<std::byte>(i)));
  }
  backend_->finish_loading();
  for (size_t i = 0; i < sent.size(); i++) check_same(sent[i], got[i]);
  backend_->release(memory, 3000000);
}

// As a load that failed leaves it.
TEST_P(Load, ABackendGoesWithUploadsOnTheirWay) {
  for (const DType type : {DType::kF32, DType::kQ8_0}) {
    backend_->begin_loading();
    ASSERT_TRUE(backend_->adopt(weight(type, 1024, 3000, 1), Placement::kDevice).ok());
    backend_ = *make_backend(GetParam(), {});
  }
}

// Memory may be asked for without zeros; all other memory has them.
TEST_P(Load, AllocatedMemoryIsZero) {
  for (int round = 0; round < 3; round++) {
    std::byte* const memory = *backend_->allocate(100000);
    std::vector<std::byte> bytes(100000, std::byte{1});
    backend_->copy_out(bytes.data(), memory, std::ssize(bytes));
    EXPECT_EQ(bytes, std::vector<std::byte>(100000));
    std::fill(bytes.begin(), bytes.end(), std::byte{7});
    backend_->copy_in(memory, bytes.data(), std::ssize(bytes));
    backend_->release(memory, 100000);
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Load, testing::ValuesIn(kernel_backends()),
                         [](const auto& i) { return i.param; });

}  // namespace
}  // namespace narwhal
