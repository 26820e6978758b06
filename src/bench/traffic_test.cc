#include "bench/traffic.h"

#include <gtest/gtest.h>

namespace narwhal::bench {
namespace {

// The types of a q2 file.
DType q2_type(TensorRole role) {
  switch (role) {
    case TensorRole::kVector:
      return DType::kF32;
    case TensorRole::kHashTable:
      return DType::kI32;
    case TensorRole::kExpertGate:
    case TensorRole::kExpertUp:
      return DType::kIQ2_XXS;
    case TensorRole::kExpertDown:
      return DType::kQ2_K;
    case TensorRole::kAttention:
    case TensorRole::kShared:
    case TensorRole::kOutput:
      return DType::kQ8_0;
    default:
      return DType::kF16;
  }
}

DType half_type(TensorRole role) { return role == TensorRole::kVector ? DType::kF32 : DType::kF16; }

Config small_config() {
  Config c;
  c.n_layers = 1;
  c.layers = {LayerKind::kSliding};
  c.n_vocab = 10;
  c.d_model = 256;
  c.n_heads = 2;
  c.head_dim = 128;
  c.q_lora = 128;
  c.o_groups = 2;
  c.o_lora = 16;
  c.n_experts = 8;
  c.n_experts_used = 2;
  c.d_expert = 64;
  c.swiglu_limit = {10};
  return c;
}

TEST(Traffic, WeightsOfASmallShapeByHand) {
  const Config c = small_config();
  const WeightTraffic t = weight_traffic(c, shape_weights(c, half_type));
  const int64_t head = 256 * 10 * 2                    // output
                       + 256 * 4                       // output_norm
                       + 1024 * 4 * 2 + 16 + 4;        // output_hc fn, base, scale
  const int64_t layer = 2 * (1024 * 24 * 2 + 96 + 12)  // hc_attn, hc_ffn
                        + 2 * 1024                     // attn_norm, ffn_norm
                        + 256 * 128 * 2 + 512          // wq_a, its norm
                        + 128 * 256 * 2                // wq_b
                        + 256 * 128 * 2 + 512 + 8      // wkv, its norm, sinks
                        + 128 * 32 * 2 + 32 * 256 * 2  // wo_a, wo_b
                        + 256 * 8 * 2 + 32             // router, bias
                        + 2 * 3 * 256 * 64 * 2         // two routed experts
                        + 3 * 256 * 64 * 2;            // shared expert
  EXPECT_EQ(t.head_bytes, head);
  EXPECT_EQ(t.bytes, 256 * 2 + head + layer);  // one row of the embedding
  EXPECT_EQ(t.head_macs, 2560 + 4096);
  EXPECT_EQ(t.macs, 2560 + 4096 + 2 * 24576 + 3 * 32768 + 4096 + 8192 + 2048 + 3 * 49152);
}

TEST(Traffic, FlashAtQ2ReadsNineAndAHalfGigabytesAToken) {
  const Config c = flash_config();
  const WeightTraffic t = weight_traffic(c, shape_weights(c, q2_type));
  EXPECT_NEAR(static_cast<double>(t.bytes), 9.5564e9, 0.0005e9);
  EXPECT_NEAR(2e-9 * static_cast<double>(t.macs - t.head_macs), 25.48, 0.01);
  EXPECT_NEAR(2e-9 * static_cast<double>(t.head_macs), 1.06, 0.01);
}

TEST(Traffic, RowsOfFlashAtTwoThousandTokens) {
  const Config c = flash_config();
  const KvLayout layout = make_kv_layout(c, KvPrecision::kTrained);
  ASSERT_EQ(layout.row.bytes(), 583);
  ASSERT_EQ(layout.index_row.bytes(), 68);
  // 43 windows, 21 CSA layers with 512 chosen and 512 index rows, 20 HCA layers with 16 rows.
  EXPECT_EQ(kv_read_bytes(c, layout, 2047), 43 * 128 * 583 + 21 * 512 * (583 + 68) + 20 * 16 * 583);
  EXPECT_EQ(kv_read_bytes(c, layout, 0), 43 * 583);
  // Past 2,048 tokens the chosen rows stay, the index rows grow.
  EXPECT_EQ(kv_read_bytes(c, layout, 4095) - kv_read_bytes(c, layout, 2047),
            21 * 512 * 68 + 20 * 16 * 583);
  EXPECT_EQ(attention_macs(c, 2047),
            2 * 64 * 512 * (43 * 128 + 21 * 512 + 20 * 16) + 21 * 64 * 128 * 512);
}

TEST(Traffic, PrefillCountsTheHeadOnce) {
  const Config c = small_config();
  const WeightTraffic t = weight_traffic(c, shape_weights(c, half_type));
  const double one = prefill_macs(c, t, 0, 1);
  EXPECT_DOUBLE_EQ(one, static_cast<double>(t.macs + attention_macs(c, 0)));
  EXPECT_DOUBLE_EQ(prefill_macs(c, t, 0, 2),
                   one + static_cast<double>(t.macs - t.head_macs + attention_macs(c, 1)));
}

TEST(Traffic, FractionOfNothingIsZero) {
  EXPECT_DOUBLE_EQ(fraction(15, 20), 0.75);
  EXPECT_DOUBLE_EQ(fraction(15, 0), 0);
}

}  // namespace
}  // namespace narwhal::bench
