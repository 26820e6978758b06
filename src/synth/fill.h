// How the values of one synthetic tensor are drawn, and the drawing, block by block.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "tensor/dtype.h"

namespace narwhal::synth_detail {

class Rng;

struct Fill {
  enum class Kind {
    kNormal,  // N(0, std^2); the only kind of quantised tensors
    kAround,  // N(mean, std^2), or just `mean` where std is 0
    kMixer,  // hc_base: n + n gates of 0, then an n x n matrix with `mean` on its diagonal; + noise
    kIds,    // rows of `row` distinct ids below `limit`
  };
  Kind kind = Kind::kNormal;
  double std = 0;
  double mean = 0;
  int limit = 0;  // kIds: number of experts; kMixer: n
  int row = 0;
  uint64_t seed = 0;
};

// 2^12 quantiles of the standard normal distribution: a table look-up draws an F16 weight.
class NormalTable {
 public:
  static constexpr int kBits = 12;
  NormalTable();
  double operator[](int i) const { return quantile_[i]; }

 private:
  std::vector<double> quantile_;  // variance exactly 1 over the table
};

// Draws the blocks of one tensor. Immutable after construction, so threads may share it.
class BlockFiller {
 public:
  // The type is one that Fill and the file format allow: F32, F16, Q8_0, Q2_K, Q4_K, IQ2_XXS, MXFP4
  // or I32. `table` must outlive the filler.
  BlockFiller(DType type, const Fill& fill, const NormalTable& table);

  // Blocks per chunk of at most `n_bytes`: always whole rows of ids. Chunk borders are part of the
  // random stream, so every writer of a tensor must use the same ones.
  int64_t blocks_in(int64_t n_bytes) const;
  // Writes blocks [first, first + count); `first` is a chunk border.
  void write(int64_t first, int64_t count, uint8_t* destination) const;

 private:
  void set_scales(double d, float min_ratio = 0);
  void put_scale(uint8_t* at, uint8_t random) const;
  void put_scale_and_min(uint8_t* at, uint8_t random) const;
  float scalar(int64_t index, Rng& rng) const;
  void write_mxfp4(int64_t count, uint8_t* destination, Rng& rng) const;
  void write_ids(int64_t count, uint8_t* destination, Rng& rng) const;
  void write_f16(int64_t first, int64_t count, uint8_t* destination, Rng& rng) const;
  void write_f32(int64_t first, int64_t count, uint8_t* destination, Rng& rng) const;

  DType type_;
  Fill fill_;
  std::array<uint16_t, 16> scale_{}, min_{};  // halves to choose from
  std::vector<uint16_t> half_;                // F16, kNormal: the table at this std
  uint8_t exponent_ = 0;                      // MXFP4: the lower of two block exponents
  int n_upper_ = 0;                           // MXFP4: of 256 blocks, how many take the upper
};

}  // namespace narwhal::synth_detail
