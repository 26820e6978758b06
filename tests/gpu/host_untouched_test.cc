// Every op is launches and nothing else: given addresses that the host cannot touch, each enqueues
// at least one kernel and the program lives on. No op can fall back to the host.
#include <gtest/gtest.h>

#include "backend/gpu/kernel_ops.h"

namespace narwhal {
namespace {

class CountingQueue : public gpu::Queue {
 public:
  void launch(gpu::KernelId, const void*, int64_t, int64_t n_groups, int n_threads) override {
    EXPECT_GT(n_groups, 0);
    EXPECT_EQ(n_threads % 32, 0);
    n_launches++;
  }
  int n_multiprocessors() const override { return 3; }
  void sync() override {}
  int n_launches = 0;
};

// Addresses in the first page, which is never mapped.
template <class T>
T* device(int64_t i = 1) {
  return reinterpret_cast<T*>(16 * i);
}

class HostUntouched : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    const StepLimits limits{.n_rows = 64,
                            .max_width = 4096,
                            .n_experts_used = 6,
                            .n_experts = 256,
                            .n_hc = 4,
                            .d_model = 4096,
                            .n_heads = 64,
                            .head_dim = 512,
                            .max_inputs = 8 * 4096};
    gpu::Scratch scratch;
    gpu::KernelOps::place(limits, device<std::byte>(), scratch);
    ops_.prepare(limits, scratch);
  }
  Weight weight(DType type, int64_t n_in, int64_t n_out, int64_t n_experts = 1) const {
    return {device<std::byte>(), type, n_in, n_out, n_experts};
  }
  template <class F>
  void launches(const char* what, F&& f) {
    queue_.n_launches = 0;
    f();
    EXPECT_GE(queue_.n_launches, 1) << what;
  }

  CountingQueue queue_;
  gpu::KernelOps ops_{queue_};
};

TEST_P(HostUntouched, EveryOp) {
  const int n = GetParam();
  float *a = device<float>(1), *b = device<float>(2);
  auto* ids = device<int32_t>(3);
  auto* bytes = device<std::byte>(4);
  const BatchRows rows{n, ids, ids, ids, ids};
  const RowFormat attention{RowFormat::Kind::kAttention, 512, 448},
      index{RowFormat::Kind::kIndex, 128, 0};
  const Ring ring{bytes, 1, 0, 144, 583};
  const PagedRows paged{bytes, 1, 0, ids, 4, 128, attention},
      index_paged{bytes, 1, 0, ids, 4, 128, index};
  HcParams hc;
  hc.fn = weight(DType::kF16, 4 * 4096, 24);
  hc.n_hc = 4;
  hc.d = 4096;
  const DType types[] = {DType::kF32,  DType::kF16,  DType::kBF16,    DType::kQ8_0,
                         DType::kQ4_K, DType::kQ2_K, DType::kIQ2_XXS, DType::kMXFP4};
  for (const DType t : types) {
    launches("embed", [&] { ops_.embed(rows, weight(t, 4096, 100), 4, a); });
    launches("matmul", [&] { ops_.matmul(weight(t, 4096, 100), n, a, b); });
    launches("grouped_matmul", [&] { ops_.grouped_matmul(weight(t, 4096, 96), 8, n, a, b); });
    launches("add_ape", [&] { ops_.add_ape(rows, weight(t, 1024, 4), 4, a); });
    launches("routed_experts", [&] {
      const ExpertParams p{weight(t, 4096, 2048, 256), weight(t, 4096, 2048, 256),
                           weight(t, 2048, 4096, 256), 10};
      ops_.routed_experts(p, n, 6, a, ids, a, b, b);
    });
  }
  launches("rope_table", [&] { ops_.rope_table(rows, a, 64, b); });
  launches("rms_norm", [&] { ops_.rms_norm(n, 4096, a, a, 1, b); });
  launches("add", [&] { ops_.add(n, a, b); });
  launches("hc_gates", [&] { ops_.hc_gates(hc, n, a, b); });
  launches("hc_head_gates", [&] { ops_.hc_head_gates(hc, n, a, b); });
  launches("hc_sum", [&] { ops_.hc_sum(hc, n, a, a, 24, b); });
  launches("hc_post", [&] { ops_.hc_post(hc, n, a, a, b); });
  launches("hc_pre", [&] { ops_.hc_pre(hc, a, n, a, b, b); });
  launches("head_norm", [&] { ops_.head_norm(n, 64, 512, 1, a); });
  launches("head_norm_rope", [&] { ops_.head_norm_rope(n, 64, 512, 64, 1, a, b); });
  launches("rope_tail", [&] { ops_.rope_tail(n, 64, 512, 64, a, true, b); });
  launches("encode_rows", [&] { ops_.encode_rows(attention, n, a, bytes); });
  launches("index_query", [&] { ops_.index_query(index, n, 64, a); });
  launches("compress", [&] {
    const CompressorParams p{4, true, a, 1, a, 64, ring, ring, paged};
    ops_.compress(rows, p, a, a);
  });
  launches("ring_store", [&] { ops_.ring_store(rows, ring, bytes); });
  const IndexParams select{64, 512, 4096, 16, index_paged};
  launches("index_scores", [&] { ops_.index_scores(rows, select, a, a, b); });
  launches("top_k", [&] { ops_.top_k(rows, select, a, ids, ids); });
  launches("attention", [&] {
    const AttentionParams p{64, 512, 128, attention, bytes, ring, 4, paged, ids, ids, 512, a};
    ops_.attention(rows, p, a, b);
  });
  launches("route", [&] { ops_.route(rows, a, 256, a, nullptr, 6, 1, ids, b); });
  launches("swiglu", [&] { ops_.swiglu(n, 10, a, b); });
  for (const int n_vocab : {100, 129280}) {
    launches("best_logits",
             [&] { ops_.best_logits(n, n_vocab, a, reinterpret_cast<Candidates*>(bytes)); });
  }
  launches("gather_rows", [&] { ops_.gather_rows(n, ids, 4096, a, b); });
}

// Gaps between launches are what decoding spends most of its time on.
TEST_P(HostUntouched, FusedOpsAreFewLaunches) {
  const int n = GetParam();
  float* a = device<float>(1);
  auto* ids = device<int32_t>(3);
  auto* bytes = device<std::byte>(4);
  const BatchRows rows{n, ids, ids, ids, ids};
  const auto count = [&](auto&& f) {
    queue_.n_launches = 0;
    f();
    return queue_.n_launches;
  };
  const Weight q8 = weight(DType::kQ8_0, 4096, 1024), f16 = weight(DType::kF16, 4096, 512);
  const Product products[] = {{&q8, a}, {&f16, a}, {&q8, a}, {&f16, a}, {&f16, a}};
  EXPECT_EQ(count([&] { ops_.matmuls(products, n, a); }), n == 1 ? 1 : n <= gpu::kFewRows ? 2 : 3);
  HcParams hc;
  hc.fn = weight(DType::kF16, 4 * 4096, 24);
  hc.n_hc = 4;
  hc.d = 4096;
  EXPECT_EQ(count([&] { ops_.hc_next(hc, hc, a, n, a, a, a, a); }), 2);
  const int row_bytes = 1024 * 4;
  const Ring ring{bytes, 1, 0, 24, row_bytes};
  const PagedRows paged{bytes, 1, 0, ids, 4, 128, {RowFormat::Kind::kAttention, 512, 448}};
  const CompressorParams compressor{4, true, a, 1, a, 64, ring, ring, paged};
  EXPECT_EQ(
      count([&] { ops_.compressor_step(rows, compressor, weight(DType::kF16, 1024, 4), a, a); }),
      n <= gpu::kFewRows ? 1 : 4);
  EXPECT_EQ(count([&] {
              ops_.index_heads({RowFormat::Kind::kIndex, 128, 0}, n, 64, 64, a, a);
            }),
            1);
  const AttentionParams p{64,    512,  128, {RowFormat::Kind::kAttention, 512, 448},
                          bytes, ring, 4,   paged,
                          ids,   ids,  512, a};
  EXPECT_EQ(count([&] { ops_.attention_step(rows, p, 64, a, a, a); }), n <= gpu::kFewRows ? 2 : 3);
  EXPECT_EQ(count([&] {
              const Independent ops_here(ops_);
              ops_.head_norm_rope(n, 64, 512, 64, 1, a, a);
              ops_.make_kv_rows(paged.format, n, 64, a, 1, a, a, bytes);
              ops_.index_heads({RowFormat::Kind::kIndex, 128, 0}, n, 64, 64, a, a);
            }),
            1);
  EXPECT_EQ(count([&] { const Independent ops_here(ops_); }), 0);
}

INSTANTIATE_TEST_SUITE_P(Rows, HostUntouched, testing::Values(1, 4, 40),
                         [](const auto& i) { return "rows" + std::to_string(i.param); });

TEST(KernelLimits, AreTold) {
  StepLimits limits;
  limits.n_hc = 6;
  const Status s = gpu::KernelOps::check(limits);
  EXPECT_EQ(s.code(), Code::kFailed);
  EXPECT_NE(s.message().find("6 streams"), std::string::npos) << s.message();
}

}  // namespace
}  // namespace narwhal
