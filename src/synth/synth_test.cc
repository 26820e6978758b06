#include "synth/synth.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/file.h"
#include "gguf/names.h"
#include "gguf/reader.h"
#include "model/weights.h"
#include "quant/quant.h"
#include "text/tokenizer.h"

namespace narwhal {
namespace {

namespace names = gguf::names;

std::string temp_path(const std::string& suffix = "") {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  return testing::TempDir() + "narwhal_synth_" + test->name() + suffix + ".gguf";
}

SynthOptions tiny(const std::string& quant = "q2") {
  SynthOptions o;
  o.shape = "tiny";
  o.quant = quant;
  o.out = temp_path("_" + quant);
  o.threads = 2;
  return o;
}

// Writes and maps the file, and removes its name.
Result<gguf::File> make(const SynthOptions& options) {
  NW_TRY(synth(options).status());
  auto file = gguf::File::open(options.out);
  std::remove(options.out.c_str());
  return file;
}

std::string bytes_of(const SynthOptions& options) {
  const auto report = synth(options);
  EXPECT_TRUE(report.ok()) << report.status().message();
  const auto bytes = read_file(options.out);
  std::remove(options.out.c_str());
  return bytes.ok() ? *bytes : "";
}

std::vector<float> decode(const gguf::Tensor& t) {
  std::vector<float> x(t.n_elements());
  const int64_t n = t.dims[0];
  for (int64_t r = 0; r < t.n_rows(); r++)
    quant::decode_row(t.type, t.data + r * row_bytes(t.type, n), n, x.data() + r * n);
  return x;
}

std::vector<int32_t> ids(const gguf::Tensor& t) {
  std::vector<int32_t> x(t.n_elements());
  std::memcpy(x.data(), t.data, t.n_bytes);
  return x;
}

bool exists(const std::string& path) {
  struct stat s {};
  return stat(path.c_str(), &s) == 0;
}

void expect_fault(const SynthOptions& options, Code code, const std::string& part) {
  const auto r = synth(options);
  ASSERT_FALSE(r.ok()) << "expected a fault that names " << part;
  EXPECT_EQ(r.status().code(), code) << r.status().message();
  EXPECT_NE(r.status().message().find(part), std::string::npos) << r.status().message();
  EXPECT_FALSE(exists(options.out));
  EXPECT_FALSE(exists(options.out + ".partial"));
}

TEST(Synth, FlashHasThePublishedSizes) {
  struct Case {
    const char* quant;
    int64_t published_bytes;
  };
  constexpr int64_t kPublishedDataOffset = 5333824;
  for (const Case& c :
       {Case{"q2", 86720111488}, Case{"q4", 164633502592}, Case{"mixed", 97591747456}}) {
    SynthOptions o;
    o.quant = c.quant;
    o.dry_run = true;
    const auto r = synth(o);
    ASSERT_TRUE(r.ok()) << r.status().message();
    EXPECT_EQ(r->tensors.size(), 1328);
    EXPECT_EQ(r->n_elements, 284334567511);
    EXPECT_EQ(r->data_bytes, c.published_bytes - kPublishedDataOffset) << c.quant;
    std::map<DType, int> count;
    for (const SynthTensor& t : r->tensors) count[t.type]++;
    EXPECT_EQ(count[DType::kF32], 492);
    EXPECT_EQ(count[DType::kF16], 359);
    EXPECT_EQ(count[DType::kQ8_0], 345);
    EXPECT_EQ(count[DType::kI32], 3);
  }
}

TEST(Synth, FlashAsAHoleTakesNoSpace) {
  SynthOptions o;
  o.sparse = "all";
  o.out = temp_path();
  const auto r = synth(o);
  ASSERT_TRUE(r.ok()) << r.status().message();
  struct stat s {};
  ASSERT_EQ(stat(o.out.c_str(), &s), 0);
  EXPECT_EQ(s.st_size, r->file_bytes);
  EXPECT_NEAR(s.st_size / double(1 << 30), 80.765, 0.005);
  EXPECT_LT(s.st_blocks * 512, 16 << 20);  // the header with its vocabulary only
  EXPECT_EQ(r->written_bytes, 0);
  const auto file = gguf::File::open(o.out);
  std::remove(o.out.c_str());
  ASSERT_TRUE(file.ok()) << file.status().message();
  const auto config = read_config(*file);
  ASSERT_TRUE(config.ok()) << config.status().message();
  EXPECT_EQ(config->layers, flash_config().layers);
  const auto weights = bind_weights(*config, *file);
  EXPECT_TRUE(weights.ok()) << weights.status().message();
}

TEST(Synth, MtpHasThePublishedSize) {
  SynthOptions o;
  o.mtp = true;
  o.quant = "q4";
  o.dry_run = true;
  const auto r = synth(o);
  ASSERT_TRUE(r.ok()) << r.status().message();
  EXPECT_EQ(r->tensors.size(), 32);
  EXPECT_EQ(r->data_bytes, 3807600192);
  std::map<DType, int> count;
  std::set<std::string> found;
  for (const SynthTensor& t : r->tensors) {
    count[t.type]++;
    found.insert(t.name);
  }
  EXPECT_EQ(count,
            (std::map<DType, int>{{DType::kF32, 19}, {DType::kQ8_0, 10}, {DType::kQ4_K, 3}}));
  for (const char* name : {"mtp.0.hc_head_fn.weight", "mtp.0.e_proj.weight", "mtp.0.norm.weight",
                           "mtp.0.exp_probs_b.bias", "mtp.0.hc_attn_fn.weight"})
    EXPECT_TRUE(found.contains(name)) << name;
}

TEST(Synth, EveryShapeAndQuantReadsBack) {
  for (const char* shape : {"tiny", "minnow"}) {
    for (const char* quant : {"q2", "q4", "mixed", "q8", "mxfp4", "f16"}) {
      SynthOptions o = tiny(quant);
      o.shape = shape;
      const auto file = make(o);
      ASSERT_TRUE(file.ok()) << file.status().message();
      const auto config = read_config(*file);
      ASSERT_TRUE(config.ok()) << config.status().message();
      const auto want = synth_config(o);
      ASSERT_TRUE(want.ok());
      EXPECT_EQ(config->name, want->name);
      EXPECT_EQ(config->layers, want->layers);
      EXPECT_EQ(config->n_experts, want->n_experts);
      const auto weights = bind_weights(*config, *file);
      EXPECT_TRUE(weights.ok()) << weights.status().message();
    }
  }
}

TEST(Synth, BytesDoNotDependOnThreads) {
  SynthOptions o = tiny();
  o.flavor = "rich";
  o.dimensions["vocab"] = 4096;  // several chunks per tensor
  o.threads = 1;
  const std::string one = bytes_of(o);
  ASSERT_GT(one.size(), 3 << 20);
  o.threads = 3;
  EXPECT_TRUE(one == bytes_of(o));
  o.seed = 2;
  EXPECT_FALSE(one == bytes_of(o));
}

TEST(Synth, ATensorDependsOnItsNameAlone) {
  SynthOptions o = tiny();
  const auto six = make(o);
  ASSERT_TRUE(six.ok()) << six.status().message();
  o.dimensions["layers"] = 3;
  const auto three = make(o);
  ASSERT_TRUE(three.ok()) << three.status().message();
  EXPECT_LT(three->tensors().size(), six->tensors().size());
  for (const gguf::Tensor& t : three->tensors())
    EXPECT_EQ(std::memcmp(t.data, six->tensor(t.name)->data, t.n_bytes), 0) << t.name;
}

TEST(Synth, EveryLinearMapKeepsMagnitude) {
  std::set<DType> seen;
  for (const char* quant : {"q2", "q4", "q8", "mxfp4", "f16"}) {
    const SynthOptions o = tiny(quant);
    const auto file = make(o);
    ASSERT_TRUE(file.ok()) << file.status().message();
    const auto config = read_config(*file);
    ASSERT_TRUE(config.ok());
    for (const TensorSpec& spec : tensor_table(*config)) {
      if (spec.role == TensorRole::kVector || spec.role == TensorRole::kHashTable) continue;
      const gguf::Tensor& t = *file->tensor(spec.name);
      const std::vector<float> x = decode(t);
      double sum = 0, sum2 = 0;
      for (const float v : x) {
        ASSERT_TRUE(std::isfinite(v)) << t.name;
        sum += v;
        sum2 += double(v) * v;
      }
      if (spec.name.ends_with("_ape.weight")) {
        EXPECT_EQ(sum2, 0) << t.name;
        continue;
      }
      const double n = static_cast<double>(x.size());
      const double want = spec.role == TensorRole::kEmbedding ? 1 : 1 / std::sqrt(t.dims[0]);
      // Five standard errors; block scales make quantised samples less independent.
      const double tolerance = 0.02 + 5 / std::sqrt(n);
      EXPECT_NEAR(std::sqrt(sum2 / n) / want, 1, tolerance) << t.name << " " << dtype_name(t.type);
      EXPECT_NEAR(sum / n / want, 0, tolerance) << t.name << " " << dtype_name(t.type);
      seen.insert(t.type);
    }
  }
  EXPECT_EQ(seen, (std::set<DType>{DType::kF16, DType::kQ8_0, DType::kQ2_K, DType::kQ4_K,
                                   DType::kIQ2_XXS, DType::kMXFP4}));
}

TEST(Synth, PlainVectorsAreNeutral) {
  const auto file = make(tiny());
  ASSERT_TRUE(file.ok()) << file.status().message();
  for (const float v : decode(*file->tensor("blk.3.attn_norm.weight"))) EXPECT_EQ(v, 1);
  for (const float v : decode(*file->tensor("blk.3.attn_sinks.weight"))) EXPECT_EQ(v, 0);
  for (const float v : decode(*file->tensor("blk.3.exp_probs_b.bias"))) EXPECT_EQ(v, 0);
  const std::vector<float> base = decode(*file->tensor("blk.3.hc_attn_base.weight"));
  ASSERT_EQ(base.size(), 24);
  for (int i = 0; i < 24; i++)
    EXPECT_EQ(base[i], i >= 8 && (i - 8) / 4 == (i - 8) % 4 ? 2 : 0) << i;
}

TEST(Synth, RichVectorsAreDrawn) {
  SynthOptions o = tiny();
  o.flavor = "rich";
  const auto file = make(o);
  ASSERT_TRUE(file.ok()) << file.status().message();
  for (const char* name :
       {"blk.3.attn_norm.weight", "blk.3.attn_sinks.weight", "blk.3.exp_probs_b.bias",
        "blk.3.hc_ffn_base.weight", "blk.3.hc_ffn_scale.weight", "output_hc_base.weight",
        "blk.3.attn_compressor_ape.weight"}) {
    const std::vector<float> x = decode(*file->tensor(name));
    EXPECT_GE(std::set<float>(x.begin(), x.end()).size(), std::min<size_t>(x.size(), 3)) << name;
    for (const float v : x) EXPECT_TRUE(std::isfinite(v)) << name;
  }
}

TEST(Synth, HashTableRowsHoldDistinctExperts) {
  const auto file = make(tiny());
  ASSERT_TRUE(file.ok()) << file.status().message();
  const std::vector<int32_t> table = ids(*file->tensor("blk.2.ffn_gate_tid2eid.weight"));
  ASSERT_EQ(table.size(), 2 * 1024);
  std::set<int32_t> used;
  for (size_t i = 0; i < table.size(); i += 2) {
    EXPECT_NE(table[i], table[i + 1]);
    used.insert(table.begin() + i, table.begin() + i + 2);
  }
  EXPECT_EQ(used.size(), 16);
  EXPECT_EQ(*used.begin(), 0);
  EXPECT_EQ(*used.rbegin(), 15);
}

TEST(Synth, AliasedExpertsShareBytes) {
  SynthOptions o = tiny();
  const auto whole = make(o);
  ASSERT_TRUE(whole.ok());
  o.alias_experts = 2;
  const auto file = make(o);
  ASSERT_TRUE(file.ok()) << file.status().message();
  const auto config = read_config(*file);
  ASSERT_TRUE(config.ok());
  const auto w = bind_weights(*config, *file);
  ASSERT_TRUE(w.ok()) << w.status().message();
  for (int i = 0; i < 6; i++) {
    EXPECT_EQ(w->layers[i].gate_exps.data, w->layers[i % 2].gate_exps.data) << i;
    EXPECT_EQ(w->layers[i].down_exps.data, w->layers[i % 2].down_exps.data) << i;
    EXPECT_NE(w->layers[i].gate_exps.data, w->layers[i].up_exps.data) << i;
  }
  EXPECT_NE(w->layers[0].gate_exps.data, w->layers[1].gate_exps.data);
  EXPECT_NE(w->layers[0].gate_shexp.data, w->layers[2].gate_shexp.data);
  const int64_t expert_layer = w->layers[0].gate_exps.n_bytes() + w->layers[0].up_exps.n_bytes() +
                               w->layers[0].down_exps.n_bytes();
  EXPECT_EQ(whole->file_bytes() - file->file_bytes(), 4 * expert_layer);
}

TEST(Synth, ExpertsAsAHole) {
  SynthOptions o = tiny();
  o.sparse = "experts";
  const auto file = make(o);
  ASSERT_TRUE(file.ok()) << file.status().message();
  const gguf::Tensor& exps = *file->tensor("blk.4.ffn_up_exps.weight");
  for (uint64_t i = 0; i < exps.n_bytes; i++) ASSERT_EQ(exps.data[i], std::byte{0});
  EXPECT_NE(decode(*file->tensor("blk.4.attn_kv.weight"))[5], 0);
}

TEST(Synth, DimensionsAndRatios) {
  SynthOptions o = tiny("f16");
  o.dimensions = {{"layers", 2}, {"hidden", 64}, {"experts", 5}, {"swa", 33}};
  o.ratios = {128, 4};
  const auto file = make(o);
  ASSERT_TRUE(file.ok()) << file.status().message();
  const auto c = read_config(*file);
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->n_layers, 2);
  EXPECT_EQ(c->d_model, 64);
  EXPECT_EQ(c->n_experts, 5);
  EXPECT_EQ(c->window, 33);
  EXPECT_EQ(c->n_hash_layers, 2);  // no more than there are layers
  EXPECT_EQ(c->layers, (std::vector<LayerKind>{LayerKind::kHca, LayerKind::kCsa}));
  EXPECT_EQ(synth_dimensions().size(), 19);
}

TEST(Synth, AlignmentHolds) {
  SynthOptions o = tiny();
  o.alignment = 4096;
  const auto file = make(o);
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->alignment(), 4096);
  for (const gguf::Tensor& t : file->tensors()) EXPECT_EQ(t.offset % 4096, 0) << t.name;
}

TEST(Synth, FaultsAreNamedBeforeAnythingIsWritten) {
  const auto with = [](auto change) {
    SynthOptions o = tiny();
    change(o);
    return o;
  };
  using O = SynthOptions;
  const Code bad = Code::kUsage;
  expect_fault(with([](O& o) { o.shape = "whale"; }), bad, "--shape whale");
  expect_fault(with([](O& o) { o.quant = "q3"; }), bad, "--quant q3");
  expect_fault(with([](O& o) { o.flavor = "hot"; }), bad, "--flavor hot");
  expect_fault(with([](O& o) { o.sparse = "some"; }), bad, "--sparse some");
  expect_fault(with([](O& o) { o.alignment = 48; }), bad, "--alignment 48");
  expect_fault(with([](O& o) { o.out.clear(); }), bad, "--out");
  expect_fault(with([](O& o) { o.dimensions["depth"] = 4; }), bad, "--depth");
  expect_fault(with([](O& o) { o.dimensions["heads"] = -4; }), bad, "--heads");
  expect_fault(with([](O& o) { o.dimensions["groups"] = 3; }), bad, "output groups");
  expect_fault(with([](O& o) { o.dimensions["layers"] = 1 << 30; }), bad, "--layers");
  expect_fault(with([](O& o) { o.dimensions["vocab"] = 200; }), bad, "--vocab 200");
  expect_fault(with([](O& o) { o.dimensions["ffn"] = 200; }), bad, "ffn_down_exps");
  expect_fault(with([](O& o) { o.ratios = {0, 4}; }), bad, "--ratios");
  expect_fault(with([](O& o) { o.ratios = {0, 4, 8, 0, 0, 0}; }), bad, "--ratios: 8");
  expect_fault(with([](O& o) {
                 o.dimensions = {{"hidden", 1 << 20}, {"ffn", 1 << 20}, {"experts", 65536}};
               }),
               bad, "weights in all");
  expect_fault(with([](O& o) { o.out = testing::TempDir() + "no/such/folder/x.gguf"; }),
               Code::kFailed, "no/such/folder");
}

TEST(Synth, MoreThanTheDiskHoldsIsRefused) {
  SynthOptions o = tiny("f16");
  o.dimensions = {{"experts", 65536}, {"ffn", 65536}, {"hidden", 4096}};  // 600 TB
  expect_fault(o, Code::kFailed, "GiB free");
}

TEST(Synth, AFolderIsNoTarget) {
  SynthOptions o = tiny();
  o.out = testing::TempDir();
  const auto r = synth(o);
  ASSERT_FALSE(r.ok());
  EXPECT_NE(r.status().message().find("folder"), std::string::npos) << r.status().message();
  EXPECT_FALSE(exists(o.out + ".partial"));
}

// Vocabulary.

text::Vocab read_vocab(const gguf::File& file) {
  const auto tokens = file.get_strings(names::kTokens), merges = file.get_strings(names::kMerges);
  const auto types = file.get_ints(names::kTokenTypes);
  text::Vocab v;
  v.tokens.assign(tokens->begin(), tokens->end());
  v.merges.assign(merges->begin(), merges->end());
  v.types.assign(types->begin(), types->end());
  v.bos = static_cast<int32_t>(*file.get_int(names::kBosId));
  v.eos = static_cast<int32_t>(*file.get_int(names::kEosId));
  v.pad = static_cast<int32_t>(*file.get_int(names::kPadId));
  return v;
}

void expect_usable(const gguf::File& file, int n_vocab) {
  const auto t = text::Tokenizer::create(read_vocab(file));
  ASSERT_TRUE(t.ok()) << t.status().message();
  EXPECT_EQ(t->vocab_size(), n_vocab);
  EXPECT_EQ(t->bos(), 0);
  EXPECT_EQ(t->eos(), 1);
  for (const char* name : {"<｜User｜>", "<｜Assistant｜>", "<think>", "</think>", "｜DSML｜",
                           "<｜latest_reminder｜>"})
    EXPECT_GE(t->id_of(name), 0) << name;
  const std::string text = "The cat and the hat, naïve 你好 \x01\n";
  EXPECT_EQ(t->decode(t->encode(text)), text);
}

TEST(SynthVocabulary, ByteLevel) {
  const auto file = make(tiny());
  ASSERT_TRUE(file.ok()) << file.status().message();
  expect_usable(*file, 1024);
  const auto t = text::Tokenizer::create(read_vocab(*file));
  ASSERT_TRUE(t.ok());
  EXPECT_EQ(t->encode("a the and").size(), 3);  // merges are in effect
}

TEST(SynthVocabulary, SmallestPossible) {
  SynthOptions o = tiny();
  o.dimensions["vocab"] = 276;
  const auto file = make(o);
  ASSERT_TRUE(file.ok()) << file.status().message();
  expect_usable(*file, 276);
  o.dimensions["vocab"] = 275;
  expect_fault(o, Code::kUsage, "at least 276");
}

// 3 specials, a placeholder and <think>, 256 bytes, then a chain of merges x, xx, xxx ...
std::string tokenizer_json(int n_merges) {
  std::string vocab, merges;
  int id = 5;
  const auto add = [&](const std::string& printable) {
    std::string escaped;
    for (const char c : printable) {
      if (c == '"' || c == '\\') escaped += '\\';
      escaped += c;
    }
    vocab += (vocab.empty() ? "\"" : ",\"") + escaped + "\":" + std::to_string(id++);
  };
  for (int b = 0; b < 256; b++) add(text::to_printable(std::string(1, static_cast<char>(b))));
  std::string left = "x";
  for (int i = 0; i < n_merges; i++) {
    merges += (i ? ",\"" : "\"") + left + " x\"";
    left += "x";
    add(left);
  }
  const char* added[] = {"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>",
                         "<｜place▁holder▁no▁7｜>", "<think>"};
  std::string list;
  for (int i = 0; i < 5; i++)
    list += (i ? "," : "") + std::string("{\"id\":") + std::to_string(i) + ",\"content\":\"" +
            added[i] + "\",\"special\":true}";
  return "{\"added_tokens\":[" + list + "],\"model\":{\"type\":\"BPE\",\"vocab\":{" + vocab +
         "},\"merges\":[" + merges + "]}}";
}

SynthOptions with_tokenizer(int n_merges) {
  SynthOptions o = tiny();
  o.tokenizer_json = o.out + ".json";
  std::ofstream(o.tokenizer_json) << tokenizer_json(n_merges);
  return o;
}

TEST(SynthVocabulary, ASmallerTokenizerIsPadded) {
  const SynthOptions o = with_tokenizer(20);
  const auto file = make(o);
  std::remove(o.tokenizer_json.c_str());
  ASSERT_TRUE(file.ok()) << file.status().message();
  expect_usable(*file, 1024);
  const text::Vocab v = read_vocab(*file);
  EXPECT_EQ(v.merges.size(), 20);
  EXPECT_EQ(v.tokens[4], "<think>");  // keeps its place
  EXPECT_NE(v.tokens[3].find("｜"), std::string::npos);
  EXPECT_EQ(v.tokens[3].find("holder"), std::string::npos);  // renamed to a control
}

TEST(SynthVocabulary, ALargerTokenizerKeepsItsFirstTokens) {
  const SynthOptions o = with_tokenizer(1500);
  const auto file = make(o);
  std::remove(o.tokenizer_json.c_str());
  ASSERT_TRUE(file.ok()) << file.status().message();
  expect_usable(*file, 1024);
  const text::Vocab v = read_vocab(*file);
  EXPECT_EQ(v.merges.size(), 1024 - 17 - 5 - 256);
  EXPECT_EQ(v.merges[0], "x x");
}

TEST(SynthVocabulary, AFaultyTokenizerIsNamed) {
  SynthOptions o = tiny();
  o.tokenizer_json = o.out + ".json";
  expect_fault(o, Code::kBadInput, o.tokenizer_json);
  std::ofstream(o.tokenizer_json) << "{\"model\":{}}";
  expect_fault(o, Code::kBadInput, o.tokenizer_json);
  std::remove(o.tokenizer_json.c_str());
}

}  // namespace
}  // namespace narwhal
