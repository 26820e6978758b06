// A small checkpoint in the official spelling for tests: FP8 matrices with E8M0 tiles, FP4 experts,
// BF16 and F32 vectors, an I64 hash table. Seeded; the values are also decoded here, by the
// formulas of the formats and not by the code under test.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "safetensors/writer.h"

namespace narwhal::test {

using safetensors::SourceType;

inline constexpr char kOfficialConfig[] = R"({
  "model_type": "deepseek_v4", "vocab_size": 264, "hidden_size": 256, "num_hidden_layers": 4,
  "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 128, "qk_rope_head_dim": 64,
  "q_lora_rank": 160, "o_lora_rank": 64, "o_groups": 2, "sliding_window": 128,
  "compress_ratios": [0, 4, 128, 4, 0], "index_n_heads": 2, "index_head_dim": 128,
  "index_topk": 8, "n_routed_experts": 3, "num_experts_per_tok": 2, "n_shared_experts": 1,
  "moe_intermediate_size": 128, "routed_scaling_factor": 1.5, "norm_topk_prob": true,
  "scoring_func": "sqrtsoftplus", "num_hash_layers": 2, "swiglu_limit": 10.0, "hc_mult": 4,
  "hc_sinkhorn_iters": 20, "hc_eps": 1e-06, "rms_norm_eps": 1e-06, "rope_theta": 10000,
  "compress_rope_theta": 160000, "max_position_embeddings": 1048576,
  "rope_scaling": {"type": "yarn", "factor": 16, "original_max_position_embeddings": 65536,
                   "beta_fast": 32, "beta_slow": 1}
})";

struct TestTensor {
  std::string name;
  SourceType type;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
};

class TestCheckpoint {
 public:
  explicit TestCheckpoint(uint32_t seed = 1) : random_(seed) {
    dense("embed", 264, 256);
    dense("head", 264, 256);
    vector("norm.weight", 256, SourceType::kBF16);
    hyper_connection("hc_head", 4, 1);
    for (int i = 0; i < 4; i++)
      block("layers." + std::to_string(i) + ".", i == 0 ? 0 : i == 2 ? 128 : 4, i < 2);
    dense("mtp.0.e_proj", 256, 256);
  }

  // Decoded values by tensor name, row-major; the hash tables as they are.
  const std::vector<float>& values(const std::string& name) const { return values_.at(name); }
  std::vector<TestTensor>& tensors() { return tensors_; }
  TestTensor& tensor(const std::string& name) {
    for (TestTensor& t : tensors_)
      if (t.name == name) return t;
    ADD_FAILURE() << name;
    return tensors_.front();
  }
  void remove(const std::string& name) {
    std::erase_if(tensors_, [&](const TestTensor& t) { return t.name == name; });
  }

  // A whole MTP block in place of the one tensor.
  void add_mtp() {
    remove("mtp.0.e_proj.weight");
    values_.erase("mtp.0.e_proj.weight");
    block("mtp.0.", 0, false);
    fp8("mtp.0.e_proj", 256, 256);
    fp8("mtp.0.h_proj", 256, 256);
    for (const char* norm : {"enorm", "hnorm", "norm"})
      vector(std::string("mtp.0.") + norm + ".weight", 256, SourceType::kBF16);
    hyper_connection("mtp.0.hc_head", 4, 1);
  }

  // Writes config.json and model.safetensors into an empty folder and returns its path.
  std::string write(const std::string& folder_name,
                    std::string_view config = kOfficialConfig) const;

 private:
  void put(std::string name, SourceType type, std::vector<int64_t> shape,
           std::vector<std::byte> bytes) {
    tensors_.push_back({std::move(name), type, std::move(shape), std::move(bytes)});
  }
  int below(int n) { return static_cast<int>(random_() % static_cast<uint32_t>(n)); }

  void vector(const std::string& name, int64_t n, SourceType type, int64_t rows = 0) {
    const int64_t total = rows > 0 ? rows * n : n;
    std::vector<std::byte> bytes;
    for (int64_t i = 0; i < total; i++) {
      // Few enough bits to be exact in BF16.
      const float v = static_cast<float>(below(255) - 127) / 64.0f;
      uint32_t bits = 0;
      std::memcpy(&bits, &v, 4);
      if (type == SourceType::kBF16) bits >>= 16;
      for (int b = 0; b < (type == SourceType::kBF16 ? 2 : 4); b++)
        bytes.push_back(static_cast<std::byte>(bits >> 8 * b));
      values_[name].push_back(v);
    }
    put(name, type, rows > 0 ? std::vector{rows, n} : std::vector{n}, std::move(bytes));
  }
  void dense(const std::string& stem, int64_t out, int64_t in) {
    vector(stem + ".weight", in, SourceType::kBF16, out);
  }
  std::vector<std::byte> exponents(int64_t n) {
    std::vector<std::byte> s;
    for (int64_t i = 0; i < n; i++) s.push_back(static_cast<std::byte>(118 + below(8)));
    return s;
  }
  static float power(std::byte e) { return std::ldexp(1.0f, std::to_integer<int>(e) - 127); }

  void fp8(const std::string& stem, int64_t out, int64_t in) {
    const int64_t tiles_in = (in + 127) / 128, tiles_out = (out + 127) / 128;
    const std::vector<std::byte> scales = exponents(tiles_in * tiles_out);
    std::vector<std::byte> codes;
    for (int64_t i = 0; i < out * in; i++) {
      int code = below(256);
      if ((code & 127) == 127) code--;
      const int e = code >> 3 & 15, m = code & 7;
      const float magnitude =
          e == 0 ? std::ldexp(float(m), -9) : std::ldexp(1.0f + float(m) / 8, e - 7);
      const int64_t tile = i / in / 128 * tiles_in + i % in / 128;
      values_[stem + ".weight"].push_back((code & 128 ? -magnitude : magnitude) *
                                          power(scales[tile]));
      codes.push_back(static_cast<std::byte>(code));
    }
    put(stem + ".weight", SourceType::kF8_E4M3, {out, in}, std::move(codes));
    put(stem + ".scale", SourceType::kF8_E8M0, {tiles_out, tiles_in}, scales);
  }
  void fp4(const std::string& stem, int64_t out, int64_t in) {
    constexpr float kMagnitude[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    const std::vector<std::byte> scales = exponents(out * in / 32);
    std::vector<std::byte> packed(out * in / 2);
    for (int64_t i = 0; i < out * in; i++) {
      const int code = below(16);
      packed[i / 2] |= static_cast<std::byte>(i % 2 == 0 ? code : code << 4);
      const float v = kMagnitude[code & 7] * power(scales[i / 32]);
      values_[stem + ".weight"].push_back(code & 8 ? -v : v);
    }
    put(stem + ".weight", SourceType::kI8, {out, in / 2}, std::move(packed));
    put(stem + ".scale", SourceType::kF8_E8M0, {out, in / 32}, scales);
  }
  void hyper_connection(const std::string& stem, int64_t mixes, int64_t scales) {
    vector(stem + "_fn", 1024, SourceType::kF32, mixes);
    vector(stem + "_base", mixes, SourceType::kF32);
    vector(stem + "_scale", scales, SourceType::kF32);
  }
  void compressor(const std::string& stem, int64_t d, int64_t ratio) {
    const int64_t width = ratio == 4 ? 2 * d : d;
    vector(stem + "ape", width, SourceType::kF32, ratio);
    dense(stem + "wkv", width, 256);
    dense(stem + "wgate", width, 256);
    vector(stem + "norm.weight", d, SourceType::kBF16);
  }
  void hash_table(const std::string& name) {
    std::vector<std::byte> bytes(264 * 2 * 8);
    for (size_t i = 0; i < 264 * 2; i++) {
      const int id = below(3);
      bytes[8 * i] = static_cast<std::byte>(id);
      values_[name].push_back(static_cast<float>(id));
    }
    put(name, SourceType::kI64, {264, 2}, std::move(bytes));
  }
  void block(const std::string& p, int64_t ratio, bool hash) {
    hyper_connection(p + "hc_attn", 24, 3);
    hyper_connection(p + "hc_ffn", 24, 3);
    vector(p + "attn_norm.weight", 256, SourceType::kBF16);
    vector(p + "ffn_norm.weight", 256, SourceType::kBF16);
    fp8(p + "attn.wq_a", 160, 256);
    vector(p + "attn.q_norm.weight", 160, SourceType::kBF16);
    fp8(p + "attn.wq_b", 512, 160);
    fp8(p + "attn.wkv", 128, 256);
    vector(p + "attn.kv_norm.weight", 128, SourceType::kBF16);
    vector(p + "attn.attn_sink", 4, SourceType::kF32);
    fp8(p + "attn.wo_a", 128, 256);
    fp8(p + "attn.wo_b", 256, 128);
    if (ratio != 0) compressor(p + "attn.compressor.", 128, ratio);
    if (ratio == 4) {
      fp8(p + "attn.indexer.wq_b", 256, 160);
      dense(p + "attn.indexer.weights_proj", 2, 256);
      compressor(p + "attn.indexer.compressor.", 128, 4);
    }
    dense(p + "ffn.gate", 3, 256);
    if (hash)
      hash_table(p + "ffn.gate.tid2eid");
    else
      vector(p + "ffn.gate.bias", 3, SourceType::kF32);
    for (const std::string expert : {"shared_experts", "experts.0", "experts.1", "experts.2"}) {
      const bool shared = expert == "shared_experts";
      const auto matrix = [&](const char* w, int64_t out, int64_t in) {
        const std::string stem = p + "ffn." + expert + "." + w;
        shared ? fp8(stem, out, in) : fp4(stem, out, in);
      };
      matrix("w1", 128, 256);
      matrix("w3", 128, 256);
      matrix("w2", 256, 128);
    }
  }

  std::mt19937 random_;
  std::vector<TestTensor> tensors_;
  std::map<std::string, std::vector<float>> values_;
};

inline std::string fresh_folder(const std::string& name) {
  const auto path = std::filesystem::path(testing::TempDir()) / "narwhal_convert" / name;
  std::filesystem::remove_all(path);
  std::filesystem::create_directories(path);
  return path.string();
}

inline void write_text(const std::string& path, std::string_view text) {
  std::ofstream(path, std::ios::binary) << text;
}

inline std::string TestCheckpoint::write(const std::string& folder_name,
                                         std::string_view config) const {
  std::string folder = fresh_folder(folder_name);
  std::vector<safetensors::Tensor> views;
  for (const TestTensor& t : tensors_)
    views.push_back({t.name, t.type, t.shape, t.bytes.data(), t.bytes.size()});
  const Status s = safetensors::write_file(folder + "/model.safetensors", views);
  EXPECT_TRUE(s.ok()) << s.message();
  write_text(folder + "/config.json", config);
  return folder;
}

}  // namespace narwhal::test
