#include "model/weights.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace narwhal {
namespace {

Config small_config() {
  Config c = flash_config();
  c.n_layers = 4;
  c.layers = {LayerKind::kSliding, LayerKind::kCsa, LayerKind::kHca, LayerKind::kCsa};
  c.swiglu_limit.assign(4, 10.0f);
  c.n_vocab = 20;
  c.d_model = 32;
  c.n_heads = 4;
  c.head_dim = 128;
  c.q_lora = 32;
  c.o_groups = 2;
  c.o_lora = 16;
  c.n_index_heads = 2;
  c.index_top_k = 8;
  c.n_experts = 5;
  c.n_experts_used = 2;
  c.d_expert = 32;
  c.n_hash_layers = 2;
  return c;
}

DType small_type(TensorRole role) {
  if (role == TensorRole::kVector) return DType::kF32;
  return role == TensorRole::kHashTable ? DType::kI32 : DType::kF16;
}

struct Entry {
  TensorSpec spec;
  DType type;
};

// The file of a small model whose table a test may change before it is written; `fill` writes
// tensor data (zero otherwise).
class ModelFile {
 public:
  using Table = std::map<std::string, Entry>;

  explicit ModelFile(const Config& config) : config_(config) {
    for (TensorSpec& t : tensor_table(config)) {
      const DType type = small_type(t.role);
      std::string name = t.name;
      table.emplace(std::move(name), Entry{std::move(t), type});
    }
  }

  void write_later(const std::string& name, std::vector<int32_t> values) {
    data_[name] = std::move(values);
  }

  Status write_and_open() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    const std::string path = testing::TempDir() + "narwhal_weights_" + test->name() + ".gguf";
    gguf::Writer w;
    write_config(config_, w);
    std::map<std::string, int> index;
    for (const auto& [name, e] : table) index[name] = w.add_tensor(name, e.type, e.spec.dims);
    NW_TRY(w.begin(path));
    for (const auto& [name, v] : data_)
      NW_TRY(w.write(index.at(name), 0, v.data(), v.size() * sizeof v[0]));
    NW_TRY(w.finish());
    auto opened = gguf::File::open(path);
    std::remove(path.c_str());
    NW_TRY(opened.status());
    file_.emplace(*std::move(opened));
    return ok_status();
  }
  const gguf::File& file() const { return *file_; }

  Result<Weights> bind() {
    NW_TRY(write_and_open());
    return bind_weights(config_, *file_);
  }

  Table table;

 private:
  Config config_;
  std::map<std::string, std::vector<int32_t>> data_;
  std::optional<gguf::File> file_;
};

void expect_fault(const Result<Weights>& r, const std::vector<std::string>& parts) {
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.status().code(), Code::kBadInput);
  for (const std::string& part : parts)
    EXPECT_NE(r.status().message().find(part), std::string::npos)
        << part << " in: " << r.status().message();
}

// Bytes of a role in the published q2 and q4 files, padded to the alignment.
int64_t stored_bytes(const TensorSpec& t, bool q4) {
  DType type = DType::kF16;
  switch (t.role) {
    case TensorRole::kVector:
      type = DType::kF32;
      break;
    case TensorRole::kHashTable:
      type = DType::kI32;
      break;
    case TensorRole::kAttention:
    case TensorRole::kShared:
    case TensorRole::kOutput:
      type = DType::kQ8_0;
      break;
    case TensorRole::kExpertGate:
    case TensorRole::kExpertUp:
      type = q4 ? DType::kQ4_K : DType::kIQ2_XXS;
      break;
    case TensorRole::kExpertDown:
      type = q4 ? DType::kQ4_K : DType::kQ2_K;
      break;
    default:
      break;
  }
  int64_t rows = 1;
  for (size_t i = 1; i < t.dims.size(); i++) rows *= t.dims[i];
  return (row_bytes(type, t.dims[0]) * rows + 31) / 32 * 32;
}

TEST(TensorTable, FlashMatchesThePublishedFiles) {
  const std::vector<TensorSpec> table = tensor_table(flash_config());
  EXPECT_EQ(table.size(), 1328);
  std::set<std::string> names;
  std::map<DType, int> n_by_type;
  int64_t n_elements = 0, n_ids = 0, q2 = 0, q4 = 0;
  for (const TensorSpec& t : table) {
    EXPECT_TRUE(names.insert(t.name).second) << t.name;
    int64_t n = 1;
    for (const int64_t d : t.dims) n *= d;
    n_elements += n;
    if (t.role == TensorRole::kHashTable) n_ids += n;
    q2 += stored_bytes(t, false);
    q4 += stored_bytes(t, true);
  }
  EXPECT_EQ(n_elements, 284334567511);
  EXPECT_EQ(n_ids, 2327040);
  constexpr int64_t kDataOffset = 5333824;  // of both published files
  EXPECT_EQ(q2 + kDataOffset, 86720111488);
  EXPECT_EQ(q4 + kDataOffset, 164633502592);
}

TEST(TensorTable, LayersHoldWhatTheirKindNeeds) {
  std::map<std::string, TensorSpec> t;
  for (const TensorSpec& s : tensor_table(flash_config())) t[s.name] = s;
  using D = std::vector<int64_t>;
  EXPECT_EQ(t.at("blk.2.attn_compressor_kv.weight").dims, (D{4096, 1024}));
  EXPECT_EQ(t.at("blk.3.attn_compressor_kv.weight").dims, (D{4096, 512}));
  EXPECT_EQ(t.at("blk.2.attn_compressor_ape.weight").dims, (D{1024, 4}));
  EXPECT_EQ(t.at("blk.3.attn_compressor_ape.weight").dims, (D{512, 128}));
  EXPECT_EQ(t.at("blk.2.indexer.attn_q_b.weight").dims, (D{1024, 8192}));
  EXPECT_EQ(t.at("blk.2.indexer_compressor_ape.weight").dims, (D{256, 4}));
  EXPECT_EQ(t.at("blk.0.ffn_gate_tid2eid.weight").dims, (D{6, 129280}));
  EXPECT_EQ(t.at("blk.5.ffn_down_exps.weight").dims, (D{2048, 4096, 256}));
  EXPECT_EQ(t.at("blk.5.attn_output_a.weight").dims, (D{4096, 8192}));
  EXPECT_EQ(t.at("output_hc_fn.weight").dims, (D{16384, 4}));
  EXPECT_EQ(t.at("blk.42.attn_norm.weight").layer, 42);
  EXPECT_EQ(t.at("output.weight").layer, -1);
  EXPECT_EQ(t.count("blk.1.attn_compressor_kv.weight"), 0);
  EXPECT_EQ(t.count("blk.3.indexer.proj.weight"), 0);
  EXPECT_EQ(t.count("blk.2.exp_probs_b.bias"), 0);
  EXPECT_EQ(t.count("blk.3.exp_probs_b.bias"), 1);
  EXPECT_EQ(t.count("blk.3.ffn_gate_tid2eid.weight"), 0);
}

TEST(BindWeights, EveryFieldPointsAtItsTensor) {
  const Config c = small_config();
  ModelFile m(c);
  const auto w = m.bind();
  ASSERT_TRUE(w.ok()) << w.status().message();
  const auto at = [&m](const std::string& name) { return m.file().tensor(name)->data; };
  EXPECT_EQ(w->token_embd.data, at("token_embd.weight"));
  EXPECT_EQ(w->output.data, at("output.weight"));
  EXPECT_EQ(w->output_norm.data, at("output_norm.weight"));
  EXPECT_EQ(w->hc_head.fn.data, at("output_hc_fn.weight"));
  EXPECT_EQ(w->hc_head.base.data, at("output_hc_base.weight"));
  ASSERT_EQ(w->layers.size(), 4);
  const LayerWeights& l = w->layers[1];  // CSA with hash routing
  EXPECT_EQ(l.hc_attn.fn.data, at("blk.1.hc_attn_fn.weight"));
  EXPECT_EQ(l.hc_ffn.scale.data, at("blk.1.hc_ffn_scale.weight"));
  EXPECT_EQ(l.attn_norm.data, at("blk.1.attn_norm.weight"));
  EXPECT_EQ(l.ffn_norm.data, at("blk.1.ffn_norm.weight"));
  EXPECT_EQ(l.wq_a.data, at("blk.1.attn_q_a.weight"));
  EXPECT_EQ(l.q_norm.data, at("blk.1.attn_q_a_norm.weight"));
  EXPECT_EQ(l.wq_b.data, at("blk.1.attn_q_b.weight"));
  EXPECT_EQ(l.wkv.data, at("blk.1.attn_kv.weight"));
  EXPECT_EQ(l.kv_norm.data, at("blk.1.attn_kv_a_norm.weight"));
  EXPECT_EQ(l.sinks.data, at("blk.1.attn_sinks.weight"));
  EXPECT_EQ(l.wo_a.data, at("blk.1.attn_output_a.weight"));
  EXPECT_EQ(l.wo_b.data, at("blk.1.attn_output_b.weight"));
  EXPECT_EQ(l.compressor.wkv.data, at("blk.1.attn_compressor_kv.weight"));
  EXPECT_EQ(l.compressor.wgate.data, at("blk.1.attn_compressor_gate.weight"));
  EXPECT_EQ(l.index_wq_b.data, at("blk.1.indexer.attn_q_b.weight"));
  EXPECT_EQ(l.index_proj.data, at("blk.1.indexer.proj.weight"));
  EXPECT_EQ(l.index_compressor.ape.data, at("blk.1.indexer_compressor_ape.weight"));
  EXPECT_EQ(l.index_compressor.norm.data, at("blk.1.indexer_compressor_norm.weight"));
  EXPECT_EQ(l.router.data, at("blk.1.ffn_gate_inp.weight"));
  EXPECT_EQ(l.tid2eid.data, at("blk.1.ffn_gate_tid2eid.weight"));
  EXPECT_EQ(l.gate_exps.data, at("blk.1.ffn_gate_exps.weight"));
  EXPECT_EQ(l.up_exps.data, at("blk.1.ffn_up_exps.weight"));
  EXPECT_EQ(l.down_exps.data, at("blk.1.ffn_down_exps.weight"));
  EXPECT_EQ(l.gate_shexp.data, at("blk.1.ffn_gate_shexp.weight"));
  EXPECT_EQ(l.up_shexp.data, at("blk.1.ffn_up_shexp.weight"));
  EXPECT_EQ(l.down_shexp.data, at("blk.1.ffn_down_shexp.weight"));
  EXPECT_FALSE(l.router_bias);
  EXPECT_EQ(w->layers[3].router_bias.data, at("blk.3.exp_probs_b.bias"));
  EXPECT_FALSE(w->layers[3].tid2eid);
  EXPECT_FALSE(w->layers[0].compressor.wkv);
  EXPECT_TRUE(w->layers[2].compressor.wkv);
  EXPECT_FALSE(w->layers[2].index_proj);

  EXPECT_EQ(l.gate_exps.n_in, c.d_model);
  EXPECT_EQ(l.gate_exps.n_out, c.d_expert);
  EXPECT_EQ(l.gate_exps.n_experts, c.n_experts);
  EXPECT_EQ(l.sinks.n_in, c.n_heads);
  EXPECT_EQ(l.sinks.n_out, 1);
  EXPECT_EQ(l.attn_norm.type, DType::kF32);
}

TEST(BindWeights, EachMissingTensorIsNamed) {
  const Config c = small_config();
  for (const TensorSpec& t : tensor_table(c)) {
    ModelFile m(c);
    m.table.erase(t.name);
    expect_fault(m.bind(), {t.name, "missing"});
  }
}

TEST(BindWeights, EachWrongShapeIsNamed) {
  const Config c = small_config();
  for (const TensorSpec& t : tensor_table(c)) {
    for (size_t d = 0; d < t.dims.size(); d++) {
      ModelFile m(c);
      m.table.at(t.name).spec.dims[d]++;
      expect_fault(m.bind(), {t.name, "shape", "expected"});
    }
  }
}

TEST(BindWeights, TrailingDimensionsOfOneMakeNoDifference) {
  Config c = small_config();
  c.n_experts = c.n_experts_used = 1;
  ModelFile m(c);
  m.table.at("blk.0.attn_norm.weight").spec.dims.push_back(1);
  m.table.at("blk.3.ffn_up_exps.weight").spec.dims.pop_back();
  const auto w = m.bind();
  EXPECT_TRUE(w.ok()) << w.status().message();
}

TEST(BindWeights, AnMtpBlockIsLeftAlone) {
  ModelFile m(small_config());
  for (const TensorSpec& spec : mtp_table(small_config())) {
    EXPECT_TRUE(spec.name.starts_with("mtp.0.")) << spec.name;
    m.table[spec.name] = {spec, DType::kF32};
  }
  EXPECT_EQ(m.table.size(), tensor_table(small_config()).size() + 32);
  EXPECT_TRUE(m.bind().ok());
}

TEST(BindWeights, TypesThatARoleDoesNotAllow) {
  const std::pair<const char*, DType> faults[] = {
      {"output_norm.weight", DType::kF16},      {"blk.0.attn_norm.weight", DType::kQ8_0},
      {"blk.3.exp_probs_b.bias", DType::kBF16}, {"blk.0.ffn_gate_tid2eid.weight", DType::kF32},
      {"blk.1.attn_q_a.weight", DType::kI32},   {"blk.2.ffn_down_exps.weight", DType::kF64},
  };
  for (const auto& [name, type] : faults) {
    ModelFile m(small_config());
    m.table.at(name).type = type;
    expect_fault(m.bind(), {name, std::string(dtype_name(type))});
  }
  for (const DType t : {DType::kF32, DType::kF16, DType::kBF16, DType::kQ8_0, DType::kQ4_K,
                        DType::kQ2_K, DType::kIQ2_XXS, DType::kMXFP4}) {
    EXPECT_TRUE(type_allowed(TensorRole::kAttention, t)) << dtype_name(t);
    EXPECT_EQ(type_allowed(TensorRole::kVector, t), t == DType::kF32) << dtype_name(t);
    EXPECT_FALSE(type_allowed(TensorRole::kHashTable, t)) << dtype_name(t);
  }
  EXPECT_TRUE(type_allowed(TensorRole::kHashTable, DType::kI32));
  EXPECT_FALSE(type_allowed(TensorRole::kRouter, DType::kI8));
}

TEST(BindWeights, GateAndUpShareAType) {
  ModelFile m(small_config());
  m.table.at("blk.2.ffn_up_exps.weight").type = DType::kQ8_0;
  expect_fault(m.bind(), {"blk.2", "f16", "q8_0"});
}

TEST(BindWeights, ExpertIdsAreChecked) {
  const Config c = small_config();
  for (const int32_t bad : {c.n_experts, -1}) {
    ModelFile m(c);
    std::vector<int32_t> ids(c.n_experts_used * c.n_vocab, c.n_experts - 1);
    ids[17] = bad;
    m.write_later("blk.1.ffn_gate_tid2eid.weight", ids);
    expect_fault(m.bind(), {"blk.1.ffn_gate_tid2eid", std::to_string(bad), "entry 17"});
  }
}

}  // namespace
}  // namespace narwhal
