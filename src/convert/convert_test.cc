#include "convert/convert.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "convert/hf_names.h"
#include "convert/test_checkpoint.h"
#include "gguf/names.h"
#include "gguf/reader.h"
#include "model/weights.h"
#include "quant/quant.h"
#include "text/vocab.h"

namespace narwhal {
namespace {

namespace fs = std::filesystem;
using test::TestCheckpoint;

constexpr char kTiny[] = NARWHAL_TEST_DATA "/tiny";

// A converted file, open, with what its table says.
struct Converted {
  ConvertReport report;
  gguf::File file;
  Config config;
  std::vector<TensorSpec> table;
};

Result<Converted> converted(const ConvertOptions& options) {
  NW_ASSIGN(ConvertReport report, convert(options));
  NW_ASSIGN(gguf::File file, gguf::File::open(options.output));
  NW_ASSIGN(Config config, read_config(file));
  NW_TRY(bind_weights(config, file).status());
  std::vector<TensorSpec> table = tensor_table(config);
  return Converted{std::move(report), std::move(file), std::move(config), std::move(table)};
}

std::string output_path(const std::string& name) {
  return test::fresh_folder("out_" + name) + "/model.gguf";
}

bool has_warning(const ConvertReport& r, const std::string& part) {
  for (const std::string& w : r.warnings)
    if (w.find(part) != std::string::npos) return true;
  return false;
}

std::vector<float> decoded(const gguf::Tensor& t) {
  std::vector<float> v(static_cast<size_t>(t.n_elements()));
  for (int64_t r = 0; r < t.n_rows(); r++)
    quant::decode_row(t.type, t.data + r * row_bytes(t.type, t.dims[0]), t.dims[0],
                      v.data() + r * t.dims[0]);
  return v;
}

std::vector<std::byte> encoded(DType type, const std::vector<float>& values, int64_t n_in,
                               const float* importance = nullptr) {
  const auto n_rows = static_cast<int64_t>(values.size()) / n_in;
  std::vector<std::byte> bytes(static_cast<size_t>(n_rows * row_bytes(type, n_in)));
  for (int64_t r = 0; r < n_rows; r++)
    quant::encode_row(type, values.data() + r * n_in, n_in, importance,
                      bytes.data() + r * row_bytes(type, n_in));
  return bytes;
}

bool same_bytes(const gguf::Tensor& t, const std::vector<std::byte>& expected) {
  return t.n_bytes == expected.size() && std::memcmp(t.data, expected.data(), t.n_bytes) == 0;
}

// ---- the tiny golden checkpoint, as transformers saves it

std::vector<float> bf16_values(const safetensors::Tensor& t, int64_t begin, int64_t n) {
  std::vector<float> v(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; i++) {
    uint16_t half = 0;
    std::memcpy(&half, t.data + 2 * (begin + i), 2);
    const uint32_t bits = uint32_t{half} << 16;
    std::memcpy(&v[static_cast<size_t>(i)], &bits, 4);
  }
  return v;
}

// What the checkpoint holds for a tensor of the table, found by its transformers name.
std::vector<float> tiny_values(const safetensors::Checkpoint& tiny, const TensorSpec& spec) {
  const SourceName source = source_names(spec).back();
  const safetensors::Tensor* t = tiny.find("model." + source.name);
  if (!t) t = tiny.find(source.name);  // lm_head has no prefix
  if (!t) {
    ADD_FAILURE() << source.name;
    return {};
  }
  using Part = SourceName::Part;
  if (source.part == Part::kWhole || source.part == Part::kStack)
    return bf16_values(*t, 0, t->n_elements());
  const int64_t matrix = spec.dims[0] * spec.dims[1];
  std::vector<float> all;
  for (int64_t e = 0; e < spec.dims[2]; e++) {
    const auto half = bf16_values(*t, (2 * e + (source.part == Part::kStackUp)) * matrix, matrix);
    all.insert(all.end(), half.begin(), half.end());
  }
  return all;
}

class Tiny : public testing::Test {
 protected:
  void SetUp() override {
    auto r = safetensors::Checkpoint::open(kTiny);
    ASSERT_TRUE(r.ok()) << r.status().message();
    checkpoint_ = std::make_unique<safetensors::Checkpoint>(*std::move(r));
  }
  std::unique_ptr<safetensors::Checkpoint> checkpoint_;
};

TEST_F(Tiny, F32HoldsEveryValueExactly) {
  const auto c = converted({.checkpoint = kTiny, .output = output_path("tiny_f32"), .type = "f32"});
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->report.n_tensors, static_cast<int64_t>(c->table.size()));
  EXPECT_EQ(c->report.n_bytes, c->file.file_bytes());
  EXPECT_TRUE(c->report.fallbacks.empty());
  EXPECT_EQ(c->config.name, "tiny");
  EXPECT_EQ(c->config.prompt_profile, "preview");
  // No tokenizer is there; nothing else is to be said, so nothing of the checkpoint is left over.
  ASSERT_EQ(c->report.warnings.size(), 1u);
  EXPECT_TRUE(has_warning(c->report, "no tokenizer.json"));
  for (const TensorSpec& spec : c->table) {
    const gguf::Tensor* t = c->file.tensor(spec.name);
    ASSERT_TRUE(t) << spec.name;
    if (spec.role == TensorRole::kHashTable) {
      const auto* source = checkpoint_->find("model." + source_names(spec).back().name);
      ASSERT_TRUE(source);
      EXPECT_EQ(t->type, DType::kI32);
      EXPECT_EQ(std::memcmp(t->data, source->data, t->n_bytes), 0) << spec.name;
    } else {
      EXPECT_EQ(t->type, DType::kF32);
      EXPECT_EQ(decoded(*t), tiny_values(*checkpoint_, spec)) << spec.name;
    }
  }
  // Independent of the table of names: up is the second half of the third expert's rows.
  const auto* fused = checkpoint_->find("model.layers.4.mlp.experts.gate_up_proj");
  const auto up = bf16_values(*fused, (2 * 256 + 128) * 256, 256);
  const std::vector<float> stored = decoded(*c->file.tensor("blk.4.ffn_up_exps.weight"));
  EXPECT_TRUE(std::equal(up.begin(), up.end(), stored.begin() + 2 * 128 * 256));
}

TEST_F(Tiny, Q8IsTheEncodedSource) {
  const auto c = converted({.checkpoint = kTiny, .output = output_path("tiny_q8"), .type = "q8_0"});
  ASSERT_TRUE(c.ok()) << c.status().message();
  int n_q8 = 0;
  for (const TensorSpec& spec : c->table) {
    if (spec.role == TensorRole::kHashTable) continue;
    const gguf::Tensor& t = *c->file.tensor(spec.name);
    const bool small = spec.role == TensorRole::kHcFn || spec.role == TensorRole::kRouter;
    EXPECT_EQ(t.type, spec.role == TensorRole::kVector ? DType::kF32
                      : small                          ? DType::kF16
                                                       : DType::kQ8_0)
        << spec.name;
    n_q8 += t.type == DType::kQ8_0;
    EXPECT_TRUE(same_bytes(t, encoded(t.type, tiny_values(*checkpoint_, spec), spec.dims[0])))
        << spec.name;
  }
  EXPECT_GT(n_q8, 80);
  int64_t n_counted = 0;
  for (const auto& [type, n] : c->report.types) {
    if (type == DType::kQ8_0) {
      EXPECT_EQ(n, n_q8);
    }
    n_counted += n;
  }
  EXPECT_EQ(n_counted, c->report.n_tensors);
}

// Without an importance matrix IQ2_XXS weighs columns by their energy; rows of 128 are no Q2_K.
TEST_F(Tiny, Q2UsesColumnEnergyAndReportsFallbacks) {
  const auto c = converted({.checkpoint = kTiny, .output = output_path("tiny_q2"), .type = "q2"});
  ASSERT_TRUE(c.ok()) << c.status().message();
  ASSERT_EQ(c->report.fallbacks.size(), 6u);
  EXPECT_EQ(c->report.fallbacks[0].tensor, "blk.0.ffn_down_exps.weight");
  EXPECT_EQ(c->report.fallbacks[0].wanted, DType::kQ2_K);
  EXPECT_EQ(c->report.fallbacks[0].got, DType::kQ8_0);
  EXPECT_EQ(c->file.tensor("blk.0.ffn_down_exps.weight")->type, DType::kQ8_0);

  const TensorSpec* spec = nullptr;
  for (const TensorSpec& s : c->table)
    if (s.name == "blk.3.ffn_up_exps.weight") spec = &s;
  ASSERT_TRUE(spec);
  const gguf::Tensor& t = *c->file.tensor(spec->name);
  ASSERT_EQ(t.type, DType::kIQ2_XXS);
  const std::vector<float> all = tiny_values(*checkpoint_, *spec);
  std::vector<std::byte> expected;
  for (int e = 0; e < 6; e++) {
    const std::vector<float> w(all.begin() + e * 128 * 256, all.begin() + (e + 1) * 128 * 256);
    std::vector<float> energy(256, 0.0f);
    for (int r = 0; r < 128; r++)
      for (int col = 0; col < 256; col++) energy[col] += w[r * 256 + col] * w[r * 256 + col];
    const auto bytes = encoded(DType::kIQ2_XXS, w, 256, energy.data());
    expected.insert(expected.end(), bytes.begin(), bytes.end());
  }
  EXPECT_TRUE(same_bytes(t, expected));
}

// ---- the official spelling: FP8 tiles, FP4 experts, I64 tables

// Values of a table entry, decoded by the test.
std::vector<float> official_values(const TestCheckpoint& source, const TensorSpec& spec) {
  if (!is_expert_stack(spec.role)) return source.values(source_names(spec).front().name);
  std::vector<float> all;
  for (int64_t e = 0; e < spec.dims[2]; e++) {
    const auto& one = source.values(expert_source_names(spec, e).front());
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

TEST(ConvertOfficial, F32HoldsEveryDecodedValue) {
  const TestCheckpoint source;
  const auto c = converted({.checkpoint = source.write("official_f32"),
                            .output = output_path("official_f32"),
                            .type = "f32",
                            .name = "Small"});
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->config.name, "Small");
  EXPECT_TRUE(has_warning(c->report, "1 mtp.* tensors"));
  EXPECT_EQ(c->report.warnings.size(), 2u);
  for (const TensorSpec& spec : c->table) {
    const gguf::Tensor& t = *c->file.tensor(spec.name);
    const std::vector<float> expected = official_values(source, spec);
    if (spec.role != TensorRole::kHashTable) {
      EXPECT_EQ(decoded(t), expected) << spec.name;
      continue;
    }
    std::vector<int32_t> ids(static_cast<size_t>(t.n_elements()));
    std::memcpy(ids.data(), t.data, t.n_bytes);
    EXPECT_EQ(std::vector<float>(ids.begin(), ids.end()), expected) << spec.name;
  }
}

// The block stands beside the model, which still binds and is the same tensor by tensor.
TEST(ConvertOfficial, MtpBlockIsKeptWhenAskedFor) {
  TestCheckpoint source;
  source.add_mtp();
  const std::string folder = source.write("official_mtp");
  const auto plain =
      converted({.checkpoint = folder, .output = output_path("mtp_without"), .type = "f32"});
  const auto c = converted(
      {.checkpoint = folder, .output = output_path("mtp_with"), .type = "f32", .mtp = true});
  ASSERT_TRUE(plain.ok()) << plain.status().message();
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_TRUE(has_warning(plain->report, "mtp.* tensors are left out; --mtp keeps"));
  EXPECT_FALSE(has_warning(c->report, "left out"));
  EXPECT_EQ(*c->file.get_int(gguf::names::kMtpLayerCount), 1);
  EXPECT_EQ(plain->file.find(gguf::names::kMtpLayerCount), nullptr);

  const std::vector<TensorSpec> mtp = mtp_table(c->config);
  EXPECT_EQ(mtp.size(), 32u);
  EXPECT_EQ(c->report.n_tensors, plain->report.n_tensors + 32);
  for (const TensorSpec& spec : mtp) {
    EXPECT_FALSE(plain->file.tensor(spec.name)) << spec.name;
    const gguf::Tensor* t = c->file.tensor(spec.name);
    ASSERT_TRUE(t) << spec.name;
    EXPECT_EQ(decoded(*t), official_values(source, spec)) << spec.name;
  }
  for (const TensorSpec& spec : c->table) {
    const gguf::Tensor &a = *plain->file.tensor(spec.name), &b = *c->file.tensor(spec.name);
    EXPECT_EQ(a.type, b.type) << spec.name;
    ASSERT_EQ(a.n_bytes, b.n_bytes) << spec.name;
    EXPECT_EQ(std::memcmp(a.data, b.data, a.n_bytes), 0) << spec.name;
  }
}

// The types are chosen as for a layer, and patterns name the block's tensors.
TEST(ConvertOfficial, MtpBlockTakesTheTypesOfALayer) {
  TestCheckpoint source;
  source.add_mtp();
  const auto c = converted({.checkpoint = source.write("mtp_types"),
                            .output = output_path("mtp_types"),
                            .tensor_types = {{"mtp.0.ffn_*_exps.weight", DType::kMXFP4}},
                            .mtp = true});
  ASSERT_TRUE(c.ok()) << c.status().message();
  const auto type = [&](const char* name) { return c->file.tensor(name)->type; };
  EXPECT_EQ(type("mtp.0.attn_kv.weight"), DType::kQ8_0);
  EXPECT_EQ(type("mtp.0.e_proj.weight"), DType::kQ8_0);
  EXPECT_EQ(type("mtp.0.hc_head_fn.weight"), DType::kF16);
  EXPECT_EQ(type("mtp.0.enorm.weight"), DType::kF32);
  EXPECT_EQ(type("mtp.0.ffn_down_exps.weight"), DType::kMXFP4);
  EXPECT_EQ(type("blk.3.ffn_down_exps.weight"), DType::kQ8_0);
}

TEST(ConvertOfficial, MtpBlockThatIsNotThere) {
  TestCheckpoint source;
  source.add_mtp();
  const auto fault = [&](const char* removed) {
    source.remove(removed);
    const std::string out = output_path("mtp_fault");
    const auto r = convert({.checkpoint = source.write("mtp_fault"), .output = out, .mtp = true});
    EXPECT_EQ(r.status().code(), Code::kBadInput);
    EXPECT_TRUE(fs::is_empty(fs::path(out).parent_path()));
    return r.status().message();
  };
  EXPECT_NE(fault("mtp.0.attn.wq_a.weight").find("mtp.0.attn.wq_a.weight"), std::string::npos);
  EXPECT_NE(fault("mtp.0.enorm.weight").find("convert without --mtp"), std::string::npos);
}

TEST(ConvertOfficial, Mxfp4KeepsFp4Exactly) {
  const TestCheckpoint source;
  const auto c = converted({.checkpoint = source.write("official_mxfp4"),
                            .output = output_path("official_mxfp4"),
                            .tensor_types = {{"*_exps.weight", DType::kMXFP4}}});
  ASSERT_TRUE(c.ok()) << c.status().message();
  int n_stacks = 0;
  for (const TensorSpec& spec : c->table) {
    const gguf::Tensor& t = *c->file.tensor(spec.name);
    EXPECT_EQ(t.type == DType::kMXFP4, is_expert_stack(spec.role)) << spec.name;
    if (!is_expert_stack(spec.role)) continue;
    n_stacks++;
    EXPECT_EQ(decoded(t), official_values(source, spec)) << spec.name;
  }
  EXPECT_EQ(n_stacks, 12);
}

TEST(ConvertOfficial, Mxfp4FromOtherSourcesIsRefused) {
  const std::string out = output_path("mxfp4_refused");
  const auto r = convert({.checkpoint = TestCheckpoint().write("mxfp4_refused"),
                          .output = out,
                          .tensor_types = {{"blk.1.attn_kv.weight", DType::kMXFP4}}});
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.status().code(), Code::kUsage);
  EXPECT_NE(r.status().message().find("layers.1.attn.wkv.weight is FP8"), std::string::npos)
      << r.status().message();
  EXPECT_TRUE(fs::is_empty(fs::path(out).parent_path()));
}

TEST(ConvertOfficial, ThreadsDoNotChangeTheBytes) {
  const std::string folder = TestCheckpoint().write("threads");
  std::string first;
  for (const int n : {1, 2, 5}) {
    const std::string out = output_path("threads_" + std::to_string(n));
    const auto r = convert({.checkpoint = folder, .output = out, .type = "q2", .n_threads = n});
    ASSERT_TRUE(r.ok()) << r.status().message();
    const auto bytes = read_file(out);
    ASSERT_TRUE(bytes.ok());
    if (n == 1) first = *bytes;
    EXPECT_TRUE(*bytes == first) << n;
  }
}

TEST(ConvertOfficial, ModelPrefixOnEveryName) {
  TestCheckpoint source;
  const std::string plain = source.write("prefix_plain");
  for (auto& t : source.tensors()) t.name = "model." + t.name;
  const std::string prefixed = source.write("prefix_model");
  const std::string a = output_path("prefix_a"), b = output_path("prefix_b");
  ASSERT_TRUE(convert({.checkpoint = plain, .output = a, .name = "x"}).ok());
  const auto r = convert({.checkpoint = prefixed, .output = b, .name = "x"});
  ASSERT_TRUE(r.ok()) << r.status().message();
  EXPECT_TRUE(has_warning(*r, "1 mtp.* tensors"));
  EXPECT_EQ(*read_file(a), *read_file(b));
}

// ---- importance matrix

std::string imatrix_file(const std::string& name, const std::vector<float>& values) {
  std::string out;
  const auto i32 = [&out](size_t v) {
    for (int b = 0; b < 4; b++) out += static_cast<char>(v >> 8 * b);
  };
  i32(1);
  i32(name.size());
  out += name;
  i32(1);
  i32(values.size());
  out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  i32(17);
  i32(9);
  return out + "chats.txt";
}

TEST(ConvertImatrix, WeighsTheColumnsAndIsRecorded) {
  const TestCheckpoint source;
  const std::string folder = source.write("imatrix");
  std::vector<float> importance(3 * 256);
  for (size_t i = 0; i < importance.size(); i++)
    importance[i] = i < 512 ? 1.0f + static_cast<float>(i % 13) : 0.0f;  // expert 2 says nothing
  test::write_text(folder + "/chats.dat", imatrix_file("blk.2.ffn_gate_exps.weight", importance));
  const auto c = converted({.checkpoint = folder,
                            .output = output_path("imatrix"),
                            .type = "q2",
                            .imatrix = folder + "/chats.dat"});
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(*c->file.get_string("quantize.imatrix.file"), "chats.dat");
  EXPECT_EQ(*c->file.get_string("quantize.imatrix.dataset"), "chats.txt");
  EXPECT_EQ(*c->file.get_int("quantize.imatrix.entries_count"), 1);
  EXPECT_EQ(*c->file.get_int("quantize.imatrix.chunks_count"), 17);
  // 8 stacks of 3 in IQ2_XXS, less the 2 experts that the file speaks of.
  EXPECT_TRUE(has_warning(c->report, "no importance for 22 matrices"));

  const gguf::Tensor& t = *c->file.tensor("blk.2.ffn_gate_exps.weight");
  for (size_t e = 0; e < 3; e++) {
    const auto& w = source.values("layers.2.ffn.experts." + std::to_string(e) + ".w1.weight");
    std::vector<float> weights(256, 0.0f);
    for (size_t i = 0; i < w.size(); i++) weights[i % 256] += w[i] * w[i];
    if (e < 2) weights.assign(importance.begin() + e * 256, importance.begin() + (e + 1) * 256);
    const auto expected = encoded(DType::kIQ2_XXS, w, 256, weights.data());
    EXPECT_EQ(std::memcmp(t.data + e * expected.size(), expected.data(), expected.size()), 0) << e;
  }
}

TEST(ConvertImatrix, OfAnotherModelIsRefused) {
  const std::string folder = TestCheckpoint().write("imatrix_other");
  test::write_text(folder + "/i.dat",
                   imatrix_file("blk.2.ffn_gate_exps.weight", std::vector<float>(256, 1.0f)));
  const auto r = convert({.checkpoint = folder,
                          .output = output_path("imatrix_other"),
                          .type = "q2",
                          .imatrix = folder + "/i.dat"});
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.status().message().find("expected 768"), std::string::npos) << r.status().message();
}

// ---- tokenizer

std::string tokenizer_json(int n_added) {
  Json vocab = Json::object(), merges = Json::array(), added = Json::array();
  const std::string_view names[] = {text::kBosName, text::kEosName, text::kPadName};
  for (int64_t i = 0; i < 3; i++) {
    Json a = Json::object();
    a.set("id", Json::of(i));
    a.set("content", Json::of(std::string(names[i])));
    added.push(a);
  }
  for (int64_t b = 0; b < 256; b++)
    vocab.set(text::to_printable(std::string(1, static_cast<char>(b))), Json::of(b + 3));
  vocab.set("ab", Json::of(int64_t{259}));
  merges.push(Json::of("a b"));
  for (int64_t i = 0; i < n_added; i++) {
    Json a = Json::object();
    a.set("id", Json::of(260 + i));
    a.set("content", Json::of("<extra" + std::to_string(i) + ">"));
    added.push(a);
  }
  Json model = Json::object(), all = Json::object();
  model.set("type", Json::of("BPE"));
  model.set("vocab", vocab);
  model.set("merges", merges);
  all.set("added_tokens", added);
  all.set("model", model);
  return all.dump();
}

TEST(ConvertTokenizer, KeysAndPadding) {
  const std::string folder = TestCheckpoint().write("tokenizer");
  test::write_text(folder + "/tokenizer.json", tokenizer_json(2));
  const auto c = converted(
      {.checkpoint = folder, .output = output_path("tokenizer"), .prompt_profile = "0731"});
  ASSERT_TRUE(c.ok()) << c.status().message();
  namespace names = gguf::names;
  EXPECT_EQ(*c->file.get_string(names::kPromptProfile), "0731");
  EXPECT_EQ(*c->file.get_string(names::kTokenizerModel), "gpt2");
  EXPECT_EQ(*c->file.get_string(names::kTokenizerPre), "joyai-llm");
  EXPECT_EQ(*c->file.get_int(names::kBosId), 0);
  EXPECT_EQ(*c->file.get_int(names::kEosId), 1);
  EXPECT_EQ(*c->file.get_int(names::kPadId), 2);
  EXPECT_FALSE(*c->file.get_bool(names::kAddBos));
  EXPECT_EQ(c->file.get_strings(names::kMerges)->at(0), "a b");
  const auto tokens = *c->file.get_strings(names::kTokens);
  const auto types = *c->file.get_ints(names::kTokenTypes);
  ASSERT_EQ(tokens.size(), 264u);
  ASSERT_EQ(types.size(), 264u);
  EXPECT_EQ(tokens[0], text::kBosName);
  EXPECT_EQ(tokens[259], "ab");
  EXPECT_EQ(types[259], 1);
  EXPECT_EQ(tokens[261], "<extra1>");
  EXPECT_EQ(types[261], 3);
  EXPECT_EQ(tokens[263], "[PAD263]");
  EXPECT_TRUE(has_warning(c->report, "262 tokens and the model 264"));
}

TEST(ConvertTokenizer, Faults) {
  const std::string folder = TestCheckpoint().write("tokenizer_faults");
  const std::string path = test::fresh_folder("tokenizer_elsewhere") + "/t.json";
  const auto fault = [&] {
    const auto r =
        convert({.checkpoint = folder, .output = output_path("tokenizer_f"), .tokenizer = path});
    return r.ok() ? "(accepted)" : r.status().message();
  };
  EXPECT_NE(fault().find(path), std::string::npos);  // named, so it must be there
  test::write_text(path, tokenizer_json(5));
  EXPECT_NE(fault().find("265 tokens"), std::string::npos) << fault();
  test::write_text(path, "{");
  EXPECT_NE(fault().find(path), std::string::npos) << fault();
}

// ---- faults

struct Fault {
  const char* what;
  std::function<void(TestCheckpoint&)> damage;
  std::string named;
};

TEST(ConvertFaults, NameTheTensorAndLeaveNothingBehind) {
  const Fault faults[] = {
      {"missing", [](auto& c) { c.remove("layers.2.attn.wq_b.weight"); },
       "layers.2.attn.wq_b.weight (or layers.2.self_attn.q_b_proj.weight) is missing"},
      {"missing expert", [](auto& c) { c.remove("layers.3.ffn.experts.1.w2.weight"); },
       "layers.3.ffn.experts.1.w2.weight"},
      {"missing scale", [](auto& c) { c.remove("layers.0.attn.wkv.scale"); },
       "layers.0.attn.wkv.scale is missing"},
      {"missing table", [](auto& c) { c.remove("layers.1.ffn.gate.tid2eid"); },
       "layers.1.ffn.gate.tid2eid"},
      {"shape",
       [](auto& c) {
         c.tensor("layers.0.attn.wkv.weight").shape = {256, 128};
       },
       "layers.0.attn.wkv.weight has shape [256, 128], expected [128, 256]"},
      {"scale shape",
       [](auto& c) {
         c.tensor("layers.0.attn.wo_a.scale").shape = {2, 1};
       },
       "layers.0.attn.wo_a.scale has shape [2, 1], expected [1, 2]"},
      {"scale type",
       [](auto& c) { c.tensor("layers.0.attn.wkv.scale").type = test::SourceType::kU8; },
       "expected F8_E8M0"},
      {"vector type", [](auto& c) { c.tensor("norm.weight").type = test::SourceType::kI16; },
       "norm.weight is stored as I16, expected F32, F16 or BF16"},
      {"expert id", [](auto& c) { c.tensor("layers.1.ffn.gate.tid2eid").bytes[16] = std::byte{3}; },
       "expert id 3 at entry 2, expected 0 to 2"},
      {"NaN scale",
       [](auto& c) { c.tensor("layers.3.ffn.experts.2.w1.scale").bytes[9] = std::byte{255}; },
       "layers.3.ffn.experts.2.w1.weight row 1"},
      {"infinity",
       [](auto& c) {
         auto& bytes = c.tensor("layers.3.ffn.gate.bias").bytes;
         const float inf = std::numeric_limits<float>::infinity();
         std::memcpy(bytes.data() + 4, &inf, 4);
       },
       "value 1 is inf"},
      {"overflow",
       [](auto& c) {
         auto& bytes = c.tensor("layers.3.hc_ffn_fn").bytes;
         const float big = 1e5f;
         std::memcpy(bytes.data(), &big, 4);
       },
       "too large for f16"},
  };
  const TestCheckpoint whole;
  for (const Fault& f : faults) {
    TestCheckpoint source = whole;
    f.damage(source);
    const std::string out = output_path("faults");
    const auto r = convert({.checkpoint = source.write("faults"), .output = out, .n_threads = 2});
    ASSERT_FALSE(r.ok()) << f.what;
    EXPECT_EQ(r.status().code(), Code::kBadInput) << f.what;
    EXPECT_NE(r.status().message().find(f.named), std::string::npos)
        << f.what << ": " << r.status().message();
    EXPECT_TRUE(fs::is_empty(fs::path(out).parent_path())) << f.what;
  }
}

TEST(ConvertFaults, LeftoverTensorsAreCounted) {
  TestCheckpoint source;
  for (const char* name : {"layers.9.attn.wkv.weight", "extra"}) {
    source.tensors().push_back(source.tensor("norm.weight"));
    source.tensors().back().name = name;
  }
  const auto r =
      convert({.checkpoint = source.write("leftover"), .output = output_path("leftover")});
  ASSERT_TRUE(r.ok()) << r.status().message();
  EXPECT_TRUE(has_warning(*r,
                          "2 tensors are not part of the model and are left out, the first is "
                          "extra"));
}

TEST(ConvertFaults, Options) {
  const std::string folder = TestCheckpoint().write("options");
  const std::string out = output_path("options");
  const auto code = [](const ConvertOptions& o) { return convert(o).status().code(); };
  EXPECT_EQ(code({.checkpoint = folder, .output = out, .type = "q5"}), Code::kUsage);
  EXPECT_EQ(code({.checkpoint = folder, .output = out, .prompt_profile = "new"}), Code::kUsage);
  EXPECT_EQ(code({.checkpoint = folder, .output = ""}), Code::kUsage);
  EXPECT_EQ(code({.checkpoint = folder, .output = out, .tensor_types = {{"blk.9.*", DType::kF16}}}),
            Code::kUsage);
  EXPECT_EQ(code({.checkpoint = folder + "/absent", .output = out}), Code::kBadInput);
  EXPECT_EQ(code({.checkpoint = folder, .output = out, .imatrix = folder + "/absent"}),
            Code::kBadInput);
  EXPECT_TRUE(fs::is_empty(fs::path(out).parent_path()));
}

TEST(ConvertFaults, OutputThatCannotBeWritten) {
  const std::string folder = test::fresh_folder("unwritable");
  const auto r = convert(
      {.checkpoint = TestCheckpoint().write("unwritable_in"), .output = folder + "/no/model.gguf"});
  ASSERT_FALSE(r.ok());
  EXPECT_EQ(r.status().code(), Code::kFailed) << r.status().message();
  EXPECT_TRUE(fs::is_empty(folder));
}

TEST(ConvertFaults, BrokenConfigOrWeights) {
  TestCheckpoint source;
  const std::string config = test::kOfficialConfig;
  const std::string folder =
      source.write("broken", std::string_view(config).substr(0, config.size() / 2));
  const auto cut = convert({.checkpoint = folder, .output = output_path("broken")});
  ASSERT_FALSE(cut.ok());
  EXPECT_NE(cut.status().message().find("config.json"), std::string::npos);
  test::write_text(folder + "/config.json", config);
  fs::resize_file(folder + "/model.safetensors", 100000);
  const auto short_file = convert({.checkpoint = folder, .output = output_path("broken")});
  ASSERT_FALSE(short_file.ok());
  EXPECT_EQ(short_file.status().code(), Code::kBadInput);
}

}  // namespace
}  // namespace narwhal
