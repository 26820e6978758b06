#include "gguf/writer.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <numeric>
#include <thread>
#include <tuple>

namespace narwhal::gguf {
namespace {

std::string temp(const char* name) {
  return fmt::format("{}narwhal_{}_{}", testing::TempDir(), getpid(), name);
}

void expect_ok(const Status& s) { ASSERT_TRUE(s.ok()) << s.message(); }

TEST(GgufWriter, WhatIsWrittenIsReadBack) {
  const std::string path = temp("round.gguf");
  Writer w;
  w.add_u8("u8", 7);
  w.add_u32("u32", 4000000000u);
  w.add_i32("i32", -5);
  w.add_u64("u64", uint64_t{1} << 40);
  w.add_i64("i64", -(int64_t{1} << 40));
  w.add_f32("f32", 0.1f);
  w.add_f64("f64", 0.1);
  w.add_bool("bool", true);
  w.add_string("string", "one");
  w.add_u32s("u32s", std::vector<uint32_t>{1, 2});
  w.add_i32s("i32s", std::vector<int32_t>{-1, 4});
  w.add_f32s("f32s", std::vector<float>{0.5f, -2});
  w.add_strings("strings", std::vector<std::string>{"x", "", "\u00e9"});
  w.add_strings("none", std::vector<std::string>{});
  w.add_string("string", "two");  // replaces
  const int a = w.add_tensor("a", DType::kF32, {3});
  const int b = w.add_tensor("b", DType::kQ8_0, {32, 3, 2});
  const uint64_t planned = w.file_bytes();
  expect_ok(w.begin(path));
  EXPECT_EQ(w.file_bytes(), planned);
  EXPECT_FALSE(std::filesystem::exists(path));
  const float values[3] = {1, 2, 3};
  const std::string block(34, 'q');
  expect_ok(w.write(b, 5 * 34, block.data(), block.size()));
  expect_ok(w.write(a, 0, values, sizeof values));
  expect_ok(w.finish());

  const auto file = File::open(path);
  ASSERT_TRUE(file.ok()) << file.status().message();
  std::filesystem::remove(path);
  EXPECT_EQ(file->file_bytes(), planned);
  EXPECT_EQ(file->metadata().size(), 14u);
  EXPECT_EQ(describe(*file->find("u8")), "u8 7");
  EXPECT_EQ(describe(*file->find("u32")), "u32 4000000000");
  EXPECT_EQ(describe(*file->find("i32")), "i32 -5");
  EXPECT_EQ(describe(*file->find("u64")), "u64 1099511627776");
  EXPECT_EQ(describe(*file->find("i64")), "i64 -1099511627776");
  EXPECT_EQ(describe(*file->find("f32")), "f32 0.1");
  EXPECT_EQ(describe(*file->find("f64")), "f64 0.1");
  EXPECT_EQ(describe(*file->find("bool")), "bool true");
  EXPECT_EQ(describe(*file->find("string")), "string \"two\"");
  EXPECT_EQ(describe(*file->find("u32s")), "array of 2 u32");
  EXPECT_EQ(*file->get_ints("u32s"), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(*file->get_ints("i32s"), (std::vector<int64_t>{-1, 4}));
  EXPECT_EQ(*file->get_floats("f32s"), (std::vector<double>{0.5, -2}));
  EXPECT_EQ(*file->get_strings("strings"), (std::vector<std::string_view>{"x", "", "\u00e9"}));
  EXPECT_TRUE(file->get_strings("none")->empty());

  const Tensor* ta = file->tensor("a");
  const Tensor* tb = file->tensor("b");
  ASSERT_TRUE(ta && tb);
  EXPECT_EQ(ta->offset, w.tensor_offset(a));
  EXPECT_EQ(tb->offset, ta->offset + 32);
  EXPECT_EQ(tb->dims, (std::array<int64_t, 4>{32, 3, 2, 1}));
  EXPECT_EQ(std::memcmp(ta->data, values, sizeof values), 0);
  EXPECT_EQ(std::memcmp(tb->data + 5 * 34, block.data(), 34), 0);
  EXPECT_EQ(static_cast<int>(tb->data[0]), 0);
  // The last tensor is padded too.
  EXPECT_EQ(file->file_bytes(), tb->offset + 224);
}

TEST(GgufWriter, CopiesMetadataAndKeepsItsOwnAlignment) {
  const std::string first = temp("first.gguf"), second = temp("second.gguf");
  Writer w(64);
  w.add_strings("tokens", std::vector<std::string>{"a", "bc"});
  w.add_f64("pi", 3.25);
  w.add_tensor("t", DType::kI8, {1});
  w.add_tensor("u", DType::kI8, {1});
  expect_ok(w.begin(first));
  expect_ok(w.finish());
  const auto source = File::open(first);
  ASSERT_TRUE(source.ok()) << source.status().message();
  EXPECT_EQ(source->alignment(), 64u);
  EXPECT_EQ(source->tensor("u")->offset, source->tensor("t")->offset + 64);

  Writer copy(4096);
  for (const KeyValue& kv : source->metadata()) copy.copy(kv.key, kv.value);
  expect_ok(copy.begin(second));
  expect_ok(copy.finish());
  const auto target = File::open(second);
  ASSERT_TRUE(target.ok()) << target.status().message();
  EXPECT_EQ(target->alignment(), 4096u);
  EXPECT_EQ(*target->get_strings("tokens"), (std::vector<std::string_view>{"a", "bc"}));
  EXPECT_EQ(*target->get_float("pi"), 3.25);
  EXPECT_EQ(target->metadata().size(), source->metadata().size());
  std::filesystem::remove(first);
  std::filesystem::remove(second);
}

TEST(GgufWriter, AliasesShareBytes) {
  const std::string path = temp("alias.gguf");
  const std::vector<int64_t> whole = {8, 16}, half = {8, 8};
  Writer w;
  const int a = w.add_tensor("a", DType::kF32, whole);
  const uint64_t planned = w.tensor_bytes(a);
  const int same = w.add_alias("same", DType::kF32, whole, a);
  const int tail = w.add_alias("tail", DType::kF32, half, a, 256);
  const int next = w.add_tensor("next", DType::kF32, {1});
  expect_ok(w.begin(path));
  EXPECT_EQ(w.tensor_offset(same), w.tensor_offset(a));
  EXPECT_EQ(w.tensor_offset(next), w.tensor_offset(a) + planned);
  const float v = 42;
  expect_ok(w.write(tail, 0, &v, sizeof v));
  expect_ok(w.finish());
  const auto file = File::open(path);
  ASSERT_TRUE(file.ok()) << file.status().message();
  std::filesystem::remove(path);
  EXPECT_EQ(file->tensor("same")->data, file->tensor("a")->data);
  EXPECT_EQ(std::memcmp(file->tensor("same")->data + 256, &v, sizeof v), 0);
}

TEST(GgufWriter, RefusesFaultyDeclarations) {
  const std::vector<int64_t> row = {32};
  const std::tuple<const char*, std::function<void(Writer&)>, const char*> cases[] = {
      {"twice",
       [](Writer& w) {
         w.add_tensor("a", DType::kF32, {1});
         w.add_tensor("a", DType::kF32, {1});
       },
       "twice"},
      {"no name", [](Writer& w) { w.add_tensor("", DType::kF32, {1}); }, "a name"},
      {"no dimension", [](Writer& w) { w.add_tensor("a", DType::kF32, {}); }, "1 to 4"},
      {"five",
       [](Writer& w) {
         w.add_tensor("a", DType::kF32, {1, 1, 1, 1, 1});
       },
       "1 to 4"},
      {"zero", [](Writer& w) { w.add_tensor("a", DType::kF32, {0}); }, "found f32 of 0"},
      {"negative", [](Writer& w) { w.add_tensor("a", DType::kQ8_0, {-32}); }, "q8_0 of -32"},
      {"half a block",
       [](Writer& w) {
         w.add_tensor("a", DType::kQ2_K, {128, 2});
       },
       "whole blocks of 256"},
      {"overflow",
       [](Writer& w) {
         w.add_tensor("a", DType::kF32, {INT64_MAX, 2});
       },
       "a: found"},
      {"wide alias",
       [&](Writer& w) { w.add_alias("b", DType::kF64, row, w.add_tensor("a", DType::kF32, row)); },
       "256 bytes at byte 0 of tensor a"},
      {"late alias",
       [&](Writer& w) {
         w.add_alias("b", DType::kF32, row, w.add_tensor("a", DType::kF32, row), 32);
       },
       "128 bytes at byte 32 of tensor a"},
      {"crooked alias",
       [&](Writer& w) {
         w.add_alias("b", DType::kI8, row, w.add_tensor("a", DType::kF32, row), 8);
       },
       "a multiple of 32"},
  };
  for (const auto& [label, declare, part] : cases) {
    Writer w;
    declare(w);
    const Status s = w.begin(temp("faulty.gguf"));
    EXPECT_EQ(s.code(), Code::kBadInput) << label;
    EXPECT_NE(s.message().find(part), std::string::npos) << label << ": " << s.message();
  }
}

TEST(GgufWriter, LeavesNothingBehindUnfinished) {
  const std::string path = temp("unfinished.gguf");
  {
    Writer w;
    w.add_tensor("a", DType::kF32, {1});
    expect_ok(w.begin(path));
    EXPECT_TRUE(std::filesystem::exists(path + ".partial"));
  }
  EXPECT_FALSE(std::filesystem::exists(path + ".partial"));
  EXPECT_FALSE(std::filesystem::exists(path));
  Writer w;
  EXPECT_EQ(w.begin(testing::TempDir() + "no_such_folder/x.gguf").code(), Code::kFailed);
}

TEST(GgufWriter, ThreadsWriteDisjointRanges) {
  const std::string path = temp("threads.gguf");
  constexpr int kRows = 64, kWidth = 1024;
  Writer w;
  const int t = w.add_tensor("t", DType::kI32, {kWidth, kRows});
  expect_ok(w.begin(path));
  std::vector<std::thread> threads;
  for (int k = 0; k < 4; k++)
    threads.emplace_back([&, k] {
      for (int r = k; r < kRows; r += 4) {
        const std::vector<int32_t> row(kWidth, r);
        EXPECT_TRUE(
            w.write(t, r * sizeof(int32_t) * kWidth, row.data(), sizeof(int32_t) * kWidth).ok());
      }
    });
  for (std::thread& th : threads) th.join();
  expect_ok(w.finish());
  const auto file = File::open(path);
  ASSERT_TRUE(file.ok());
  std::filesystem::remove(path);
  const auto* data = reinterpret_cast<const int32_t*>(file->tensor("t")->data);
  for (int i = 0; i < kRows * kWidth; i++) ASSERT_EQ(data[i], i / kWidth) << i;
}

// The published files, declared tensor by tensor: their sizes are known to the byte.
class Published {
 public:
  Published& add(const std::string& name, DType type, std::initializer_list<int64_t> dims) {
    w_.add_tensor(name + ".weight", type, dims);
    n_elements_ += std::accumulate(dims.begin(), dims.end(), int64_t{1}, std::multiplies<>());
    return *this;
  }
  uint64_t data_bytes() const { return w_.file_bytes() - w_.tensor_offset(0); }
  int64_t n_elements() const { return n_elements_; }
  Writer& writer() { return w_; }

  // What every block has, main or MTP, but for the types of hc and router (`small`).
  void block(const std::string& p, DType small, DType gate_up, DType down) {
    for (const char* part : {"attn", "ffn"}) {
      add(fmt::format("{}hc_{}_fn", p, part), small, {16384, 24});
      add(fmt::format("{}hc_{}_base", p, part), DType::kF32, {24});
      add(fmt::format("{}hc_{}_scale", p, part), DType::kF32, {3});
      add(fmt::format("{}{}_norm", p, part), DType::kF32, {4096});
    }
    add(p + "attn_q_a", DType::kQ8_0, {4096, 1024});
    add(p + "attn_q_a_norm", DType::kF32, {1024});
    add(p + "attn_q_b", DType::kQ8_0, {1024, 32768});
    add(p + "attn_kv", DType::kQ8_0, {4096, 512});
    add(p + "attn_kv_a_norm", DType::kF32, {512});
    add(p + "attn_sinks", DType::kF32, {64});
    add(p + "attn_output_a", DType::kQ8_0, {4096, 8192});
    add(p + "attn_output_b", DType::kQ8_0, {8192, 4096});
    add(p + "ffn_gate_inp", small, {4096, 256});
    add(p + "ffn_gate_exps", gate_up, {4096, 2048, 256});
    add(p + "ffn_up_exps", gate_up, {4096, 2048, 256});
    add(p + "ffn_down_exps", down, {2048, 4096, 256});
    add(p + "ffn_gate_shexp", DType::kQ8_0, {4096, 2048});
    add(p + "ffn_up_shexp", DType::kQ8_0, {4096, 2048});
    add(p + "ffn_down_shexp", DType::kQ8_0, {2048, 4096});
  }

  void compressor(const std::string& p, int64_t ratio) {
    const int64_t width = ratio == 4 ? 1024 : 512;
    add(p + "attn_compressor_kv", DType::kF16, {4096, width});
    add(p + "attn_compressor_gate", DType::kF16, {4096, width});
    add(p + "attn_compressor_ape", DType::kF16, {width, ratio});
    add(p + "attn_compressor_norm", DType::kF32, {512});
    if (ratio != 4) return;
    add(p + "indexer.attn_q_b", DType::kF16, {1024, 8192});
    add(p + "indexer.proj", DType::kF16, {4096, 64});
    add(p + "indexer_compressor_kv", DType::kF16, {4096, 256});
    add(p + "indexer_compressor_gate", DType::kF16, {4096, 256});
    add(p + "indexer_compressor_ape", DType::kF16, {256, 4});
    add(p + "indexer_compressor_norm", DType::kF32, {128});
  }

  void main_file(DType gate_up, DType down) {
    add("token_embd", DType::kF16, {4096, 129280});
    add("output", DType::kQ8_0, {4096, 129280});
    add("output_norm", DType::kF32, {4096});
    add("output_hc_fn", DType::kF16, {16384, 4});
    add("output_hc_base", DType::kF32, {4});
    add("output_hc_scale", DType::kF32, {1});
    for (int n = 0; n < 43; n++) {
      const std::string p = fmt::format("blk.{}.", n);
      block(p, DType::kF16, gate_up, down);
      if (n >= 2) compressor(p, n % 2 == 0 ? 4 : 128);
      if (n >= 3)
        add(p + "exp_probs_b", DType::kF32, {256});
      else
        add(p + "ffn_gate_tid2eid", DType::kI32, {6, 129280});
    }
  }

  void mtp_file() {
    block("mtp.0.", DType::kF32, DType::kQ4_K, DType::kQ4_K);
    add("mtp.0.exp_probs_b", DType::kF32, {256});
    add("mtp.0.hc_head_fn", DType::kF32, {16384, 4});
    add("mtp.0.hc_head_base", DType::kF32, {4});
    add("mtp.0.hc_head_scale", DType::kF32, {1});
    add("mtp.0.e_proj", DType::kQ8_0, {4096, 4096});
    add("mtp.0.h_proj", DType::kQ8_0, {4096, 4096});
    for (const char* norm : {"enorm", "hnorm", "norm"})
      add(fmt::format("mtp.0.{}", norm), DType::kF32, {4096});
  }

 private:
  Writer w_;
  int64_t n_elements_ = 0;
};

TEST(GgufWriter, PublishedSizesToTheByte) {
  constexpr uint64_t kDataOffset = 5'333'824;
  Published q2, q4, mtp;
  q2.main_file(DType::kIQ2_XXS, DType::kQ2_K);
  EXPECT_EQ(q2.writer().n_tensors(), 1328);
  EXPECT_EQ(q2.n_elements(), 284'334'567'511);
  EXPECT_EQ(q2.data_bytes(), 86'720'111'488 - kDataOffset);
  q4.main_file(DType::kQ4_K, DType::kQ4_K);
  EXPECT_EQ(q4.writer().n_tensors(), 1328);
  EXPECT_EQ(q4.data_bytes(), 164'633'502'592 - kDataOffset);
  mtp.mtp_file();
  EXPECT_EQ(mtp.writer().n_tensors(), 32);
  EXPECT_EQ(mtp.data_bytes(), 3'807'600'192u);
}

TEST(GgufWriter, TheFullShapeMakesASparseFileThatOpens) {
  const std::string path = temp("flash.gguf");
  Published q2;
  q2.main_file(DType::kIQ2_XXS, DType::kQ2_K);
  expect_ok(q2.writer().begin(path));
  expect_ok(q2.writer().finish());
  const auto file = File::open(path);
  std::filesystem::remove(path);
  ASSERT_TRUE(file.ok()) << file.status().message();
  ASSERT_EQ(file->tensors().size(), 1328u);
  int64_t n_elements = 0;
  for (const Tensor& t : file->tensors()) {
    EXPECT_EQ(t.offset % 32, 0u) << t.name;
    EXPECT_EQ(t.n_bytes, static_cast<uint64_t>(t.n_rows() * row_bytes(t.type, t.dims[0])))
        << t.name;
    n_elements += t.n_elements();
  }
  EXPECT_EQ(n_elements, 284'334'567'511);
}

}  // namespace
}  // namespace narwhal::gguf
