#include "bench/ops_bench.h"

#include <gtest/gtest.h>

#include <set>

#include "bench/report.h"

namespace narwhal::bench {
namespace {

Config small_config() {
  Config c = flash_config();
  c.n_layers = 4;
  c.layers.resize(4);
  c.swiglu_limit.resize(4);
  c.n_vocab = 64;
  c.d_model = 256;
  c.n_heads = 4;
  c.head_dim = 128;
  c.q_lora = 128;
  c.o_groups = 2;
  c.o_lora = 128;
  c.n_index_heads = 2;
  c.index_top_k = 8;
  c.n_experts = 16;
  c.n_experts_used = 2;
  c.d_expert = 256;
  return c;
}

OpsOptions quick() {
  OpsOptions o;
  o.n_threads = 2;
  o.max_rows = 16;
  o.cell_seconds = 0;
  o.arena_bytes = 4 << 20;
  o.ctx = 1024;
  return o;
}

Limits limits() {
  Limits l;
  l.read.gb_per_s = 10;
  l.peaks = {{"vector", false, 100}};
  return l;
}

TEST(OpsBench, FillsTheWholeGrid) {
  const auto rows = bench_ops(small_config(), quick(), limits());
  ASSERT_TRUE(rows.ok()) << rows.status().message();
  EXPECT_TRUE(check_cells(quick(), *rows).ok());
  std::set<std::string> plain;
  for (const OpRow& r : *rows) {
    EXPECT_GT(r.seconds, 0) << r.op;
    EXPECT_GT(r.bytes, 0) << r.op;
    EXPECT_GT(r.of_limit, 0) << r.op;
    EXPECT_NEAR(r.of_limit, least_seconds(r.bytes, r.macs, 10, 100) / r.seconds, 1e-9) << r.op;
    if (r.format == "-") plain.insert(r.op);
  }
  for (const char* op : {"attention_window", "attention_csa", "attention_hca", "compress_csa",
                         "compress_hca", "index_scores", "top_k", "hc_gates", "hc_post", "route",
                         "rms_norm", "rope_table", "encode_rows", "ring_store", "swiglu"})
    EXPECT_TRUE(plain.contains(op)) << op;
}

TEST(OpsBench, AMissingCellIsAFault) {
  OpsOptions options = quick();
  options.format = "q8_0";
  auto rows = bench_ops(small_config(), options, limits());
  ASSERT_TRUE(rows.ok()) << rows.status().message();
  EXPECT_TRUE(check_cells(options, *rows).ok());
  EXPECT_EQ(check_cells(quick(), *rows).code(), Code::kFailed);  // the other formats
  std::erase_if(*rows, [](const OpRow& r) { return r.op == "grouped"; });
  const Status missing = check_cells(options, *rows);
  EXPECT_EQ(missing.code(), Code::kFailed);
  EXPECT_NE(missing.message().find("grouped"), std::string::npos) << missing.message();
}

TEST(OpsBench, FiltersChooseCells) {
  OpsOptions options = quick();
  options.op = "matvec";
  options.format = "iq2_xxs";
  const auto rows = bench_ops(small_config(), options, limits());
  ASSERT_TRUE(rows.ok()) << rows.status().message();
  for (const OpRow& r : *rows) {
    EXPECT_EQ(r.op, "matvec");
    EXPECT_EQ(r.format, "iq2_xxs");
    EXPECT_EQ(r.n, 1);
    EXPECT_EQ(r.macs, 256 * 256);
    EXPECT_EQ(r.bytes, 256 * 66 + 2 * 256 * 4);
  }
  options.op = "abacus";
  EXPECT_EQ(bench_ops(small_config(), options, limits()).status().code(), Code::kUsage);
}

TEST(OpsBench, StopsWhenAsked) {
  const auto rows =
      bench_ops(small_config(), quick(), limits(), [](int64_t done, int64_t) { return done < 1; });
  EXPECT_EQ(rows.status().code(), Code::kCancelled);
}

TEST(OpsBench, TheLimitIsTheSlowerOfBytesAndProducts) {
  EXPECT_DOUBLE_EQ(least_seconds(1000000000, 0, 10, 100), 0.1);
  EXPECT_DOUBLE_EQ(least_seconds(1000000000, 10000000000, 10, 100), 0.2);
  EXPECT_DOUBLE_EQ(least_seconds(1000000000, 10000000000, 10, 0), 0.1);
}

}  // namespace
}  // namespace narwhal::bench
