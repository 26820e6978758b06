#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <tuple>

#include "safetensors/reader.h"
#include "safetensors/writer.h"

namespace narwhal::safetensors {
namespace {

namespace fs = std::filesystem;

std::span<const std::byte> as_span(const std::string& s) { return std::as_bytes(std::span(s)); }

std::string image(const std::string& header, size_t n_data) {
  const uint64_t n = header.size();
  std::string s(reinterpret_cast<const char*>(&n), sizeof n);
  s += header;
  for (size_t i = 0; i < n_data; i++) s += static_cast<char>(i);
  return s;
}

constexpr char kHeader[] = R"({"__metadata__":{"format":"pt"},)"
                           R"("w":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
                           R"("empty":{"dtype":"I8","shape":[0,7],"data_offsets":[4,4]},)"
                           R"("scalar":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}   )";
constexpr size_t kData = 16;

// A folder of its own for each test.
class Safetensors : public testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder_); }
  void TearDown() override { fs::remove_all(folder_); }
  std::string at(const std::string& name) const { return folder_ + "/" + name; }
  void put(const std::string& name, const std::string& text) const {
    std::ofstream(at(name), std::ios::binary) << text;
  }
  const std::string folder_ =
      fmt::format("{}narwhal_{}_{}", testing::TempDir(), getpid(),
                  testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(Safetensors, ReadsOneFile) {
  const std::string bytes = image(kHeader, kData);
  const auto c = Checkpoint::from_memory(as_span(bytes), "image");
  ASSERT_TRUE(c.ok()) << c.status().message();
  ASSERT_EQ(c->tensors().size(), 3u);
  EXPECT_EQ(c->tensors()[0].name, "empty");
  EXPECT_EQ(c->tensors()[1].name, "scalar");
  EXPECT_EQ(c->tensors()[2].name, "w");
  const Tensor* w = c->find("w");
  ASSERT_EQ(w, &c->tensors()[2]);
  EXPECT_EQ(w->type, SourceType::kBF16);
  EXPECT_EQ(w->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(w->n_elements(), 6);
  EXPECT_EQ(w->n_bytes, 12u);
  EXPECT_EQ(static_cast<int>(w->data[0]), 4);
  EXPECT_EQ(c->find("scalar")->n_elements(), 1);
  EXPECT_EQ(c->find("empty")->n_elements(), 0);
  EXPECT_EQ(c->find("__metadata__"), nullptr);
  EXPECT_EQ(c->find(""), nullptr);
  EXPECT_EQ(c->find("z"), nullptr);
}

TEST_F(Safetensors, WhatIsWrittenIsReadBack) {
  std::string data(256, 0);
  for (size_t i = 0; i < data.size(); i++) data[i] = static_cast<char>(i);
  std::vector<Tensor> in;
  for (int k = 0; k < 12; k++) {
    const auto type = static_cast<SourceType>(k);
    Tensor t{fmt::format("t\"{:02}\u00e9", k), type, {3, 2}, as_span(data).data() + k, 0};
    t.n_bytes = 6 * source_type_bytes(type);
    in.push_back(t);
  }
  ASSERT_TRUE(write_file(at("x.safetensors"), in).ok());
  EXPECT_FALSE(fs::exists(at("x.safetensors.partial")));
  const auto c = Checkpoint::open(at("x.safetensors"));
  ASSERT_TRUE(c.ok()) << c.status().message();
  ASSERT_EQ(c->tensors().size(), in.size());
  for (const Tensor& t : in) {
    const Tensor* got = c->find(t.name);
    ASSERT_TRUE(got) << t.name;
    EXPECT_EQ(got->type, t.type);
    EXPECT_EQ(got->shape, t.shape);
    ASSERT_EQ(got->n_bytes, t.n_bytes);
    EXPECT_EQ(std::memcmp(got->data, t.data, t.n_bytes), 0) << t.name;
    EXPECT_EQ(source_type_by_name(source_type_name(t.type)), t.type);
  }
  in.push_back(in[0]);
  EXPECT_EQ(write_file(at("y.safetensors"), in).code(), Code::kBadInput);
  EXPECT_FALSE(fs::exists(at("y.safetensors")));
  EXPECT_EQ(write_file(at("none/z.safetensors"), {}).code(), Code::kFailed);
}

TEST_F(Safetensors, RefusesEveryFaultInOneLine) {
  const auto entry = [](const char* dtype, const char* shape, const char* offsets) {
    return fmt::format(R"({{"w":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape,
                       offsets);
  };
  ASSERT_TRUE(
      Checkpoint::from_memory(as_span(image(entry("\"F32\"", "[2,2]", "[0,16]"), 16)), "i").ok());
  const std::pair<std::string, const char*> cases[] = {
      {"", "invalid JSON"},
      {"{", "invalid JSON"},
      {"[1]", "other JSON"},
      {"{\"w\": 1}", "dtype \"null\""},
      {"{\"w\xff\": 1}", "invalid JSON"},
      {entry("4", "[4]", "[0,16]"), "found dtype \"4\""},
      {entry("\"F32\"", "4", "[0,16]"), "no shape"},
      {entry("\"F32\"", "[\"4\"]", "[0,16]"), "shape"},
      {entry("\"F32\"", "[-4]", "[0,16]"), "shape"},
      {entry("\"F32\"", "[1.5]", "[0,16]"), "shape"},
      {entry("\"F32\"", "[4611686018427387904,4]", "[0,16]"), "product"},
      {entry("\"F32\"", "[18446744073709551615]", "[0,16]"), "product"},
      {entry("\"F32\"", "[4]", "null"), "data_offsets"},
      {entry("\"F32\"", "[4]", "[0]"), "data_offsets"},
      {entry("\"F32\"", "[4]", "[0,16,16]"), "data_offsets"},
      {entry("\"F32\"", "[4]", "[-16,0]"), "data_offsets"},
      {entry("\"F32\"", "[4]", "[16,0]"), "data_offsets"},
      {entry("\"F32\"", "[4]", "[1,17]"), "within 16 bytes"},
      {entry("\"F32\"", "[4]", "[0,99999999999999999999]"), "data_offsets"},
      {entry("\"F32\"", "[3]", "[0,16]"), "found 16 bytes, expected 12"},
      {entry("\"F32\"", "[5]", "[0,16]"), "expected 20"},
      {entry("\"F4\"", "[4]", "[0,16]"), "found dtype \"F4\""},
  };
  for (const auto& [header, part] : cases) {
    const std::string bytes = image(header, 16);
    const auto c = Checkpoint::from_memory(as_span(bytes), "image");
    ASSERT_FALSE(c.ok()) << header;
    const std::string& message = c.status().message();
    EXPECT_EQ(c.status().code(), Code::kBadInput);
    EXPECT_EQ(message.find("image: "), 0u) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_NE(message.find(part), std::string::npos) << message << "\nlacks " << part;
  }
}

TEST_F(Safetensors, BoundsTheHeader) {
  const std::string whole = image(kHeader, kData);
  for (size_t n = 0; n < whole.size(); n++) {
    const std::string part(whole.data(), n);
    EXPECT_FALSE(Checkpoint::from_memory(as_span(part), "image").ok()) << n << " bytes";
  }
  for (const uint64_t n : {~uint64_t{0}, uint64_t{1} << 63, uint64_t{whole.size()} - 7}) {
    std::string bytes = whole;
    std::memcpy(bytes.data(), &n, sizeof n);
    const auto c = Checkpoint::from_memory(as_span(bytes), "image");
    ASSERT_FALSE(c.ok());
    EXPECT_NE(c.status().message().find(fmt::to_string(n)), std::string::npos);
  }
  // Longer than the format allows, though the file would hold it.
  auto out = AtomicFile::create(at("long.safetensors"));
  ASSERT_TRUE(out.ok());
  const uint64_t n = 100'000'001;
  ASSERT_TRUE(out->resize(n + 8).ok());
  ASSERT_TRUE(out->write_at(0, &n, sizeof n).ok());
  ASSERT_TRUE(out->commit().ok());
  const auto c = Checkpoint::open(at("long.safetensors"));
  ASSERT_FALSE(c.ok());
  EXPECT_NE(c.status().message().find("at most 100000000"), std::string::npos);
}

TEST_F(Safetensors, SurvivesFlippedBytes) {
  const std::string whole = image(kHeader, kData);
  std::mt19937 random(1);
  int n_open = 0, n_refused = 0;
  for (int round = 0; round < 20000; round++) {
    std::string bytes = whole;
    for (uint32_t flips = 1 + random() % 3; flips > 0; flips--)
      bytes[random() % bytes.size()] ^= static_cast<char>(1 << random() % 8);
    const auto c = Checkpoint::from_memory(as_span(bytes), "image");
    c.ok() ? n_open++ : n_refused++;
    if (!c.ok()) continue;
    for (const Tensor& t : c->tensors()) {
      ASSERT_GE(t.data, as_span(bytes).data());
      ASSERT_LE(t.data + t.n_bytes, as_span(bytes).data() + bytes.size());
      ASSERT_EQ(t.n_elements() * source_type_bytes(t.type), static_cast<int64_t>(t.n_bytes));
    }
  }
  EXPECT_GT(n_open, 500);
  EXPECT_GT(n_refused, 500);
}

TEST_F(Safetensors, ReadsShardsThroughTheirIndex) {
  const std::string data = "0123456789abcdef";
  const auto tensor = [&](const char* name, int first) {
    return Tensor{name, SourceType::kI8, {4}, as_span(data).data() + first, 4};
  };
  const Tensor one[] = {tensor("b", 0), tensor("stray", 4)};
  const Tensor two[] = {tensor("a", 8), tensor("c", 12), tensor("b", 8)};
  ASSERT_TRUE(write_file(at("one.safetensors"), one).ok());
  ASSERT_TRUE(write_file(at("two.safetensors"), two).ok());
  put("model.safetensors.index.json",
      R"({"metadata": {"total_size": 12}, "weight_map":
          {"c": "two.safetensors", "b": "one.safetensors", "a": "two.safetensors"}})");
  for (const std::string& path : {folder_, folder_ + "/", at("model.safetensors.index.json")}) {
    auto opened = Checkpoint::open(path);
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    const Checkpoint c = *std::move(opened);
    ASSERT_EQ(c.tensors().size(), 3u);
    EXPECT_EQ(c.tensors()[0].name, "a");
    EXPECT_EQ(std::memcmp(c.find("a")->data, "89ab", 4), 0);
    EXPECT_EQ(std::memcmp(c.find("b")->data, "0123", 4), 0);  // from the shard the index names
    EXPECT_EQ(std::memcmp(c.find("c")->data, "cdef", 4), 0);
    EXPECT_EQ(c.find("stray"), nullptr);
  }
}

TEST_F(Safetensors, RefusesAFaultyIndex) {
  const Tensor t{"a", SourceType::kI8, {}, as_span(folder_).data(), 1};
  ASSERT_TRUE(write_file(at("one.safetensors"), {&t, 1}).ok());
  ASSERT_TRUE(write_file(folder_ + "_outside.safetensors", {&t, 1}).ok());
  const std::pair<std::string, const char*> cases[] = {
      {"{", "invalid JSON"},
      {"{}", "weight_map"},
      {R"({"weight_map": ["one.safetensors"]})", "weight_map"},
      {R"({"weight_map": {"a": 1}})", "shard"},
      {R"({"weight_map": {"a": ""}})", "shard"},
      {R"({"weight_map": {"a": ".."}})", "shard"},
      {R"({"weight_map": {"a": "x/one.safetensors"}})", "shard"},
      {R"({"weight_map": {"a": "/etc/passwd"}})", "shard"},
      {fmt::format(R"({{"weight_map": {{"a": "../{}_outside.safetensors"}}}})",
                   fs::path(folder_).filename().string()),
       "shard"},
      {R"({"weight_map": {"a": "one.safetensors\u0000"}})", "shard"},
      {R"({"weight_map": {"a": "two.safetensors"}})", "two.safetensors"},
      {R"({"weight_map": {"a": "one.safetensors", "b": "one.safetensors"}})",
       "tensor \"b\": found it missing in one.safetensors"},
  };
  for (const auto& [index, part] : cases) {
    put("model.safetensors.index.json", index);
    const auto c = Checkpoint::open(folder_);
    ASSERT_FALSE(c.ok()) << index;
    EXPECT_EQ(c.status().code(), Code::kBadInput);
    EXPECT_NE(c.status().message().find(part), std::string::npos) << c.status().message();
  }
  fs::remove(folder_ + "_outside.safetensors");
}

TEST_F(Safetensors, FindsTheFileOfAFolder) {
  const auto none = Checkpoint::open(folder_);
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.status().message().find("model.safetensors"), std::string::npos);
  EXPECT_FALSE(Checkpoint::open(at("none.safetensors")).ok());
  const Tensor t{"a", SourceType::kI8, {}, as_span(folder_).data(), 1};
  ASSERT_TRUE(write_file(at("model.safetensors"), {&t, 1}).ok());
  const auto c = Checkpoint::open(folder_);
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_TRUE(c->find("a"));
}

// The full model has about 70 000 tensors; reading the header must not be quadratic in them.
TEST_F(Safetensors, ReadsManyTensors) {
  std::string header = "{";
  constexpr int kCount = 100'000;
  for (int i = 0; i < kCount; i++)
    header +=
        fmt::format(R"({}"layers.{}.weight":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                    i ? "," : "", i);
  const std::string bytes = image(header + "}", 1);
  const auto c = Checkpoint::from_memory(as_span(bytes), "image");
  ASSERT_TRUE(c.ok()) << c.status().message();
  EXPECT_EQ(c->tensors().size(), static_cast<size_t>(kCount));
  EXPECT_TRUE(c->find("layers.99999.weight"));
}

}  // namespace
}  // namespace narwhal::safetensors
