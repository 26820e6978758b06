#include "gguf/reader.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <random>

namespace narwhal::gguf {
namespace {

using testing::TempDir;

template <class T>
std::string raw(T v) {
  return {reinterpret_cast<const char*>(&v), sizeof v};
}
std::string str(std::string_view s) { return raw<uint64_t>(s.size()) + std::string(s); }

template <class T>
std::string scalar(ValueType t, T v) {
  return raw(static_cast<uint32_t>(t)) + raw(v);
}
std::string text(std::string_view s) {
  return raw(static_cast<uint32_t>(ValueType::kString)) + str(s);
}
std::string array_of(ValueType element, uint64_t count, const std::string& payload) {
  return raw(static_cast<uint32_t>(ValueType::kArray)) + raw(static_cast<uint32_t>(element)) +
         raw(count) + payload;
}

struct TensorRecord {
  std::string name;
  std::vector<int64_t> dims;
  uint32_t type;
  uint64_t offset;
  int n_dims = -1;  // as recorded; -1 = dims.size()
};

// A valid file, spelled out field by field; tests bend one field.
struct Image {
  uint32_t magic = 0x46554747, version = 3;
  int64_t n_tensors = -1, n_kv = -1;  // as recorded; -1 = the true count
  uint64_t alignment = 32;
  std::vector<std::pair<std::string, std::string>> metadata = {
      {"general.architecture", text("deepseek4")},
      {"deepseek4.block_count", scalar<uint32_t>(ValueType::kU32, 43)},
      {"deepseek4.rope.freq_base", scalar<float>(ValueType::kF32, 10000)},
      {"deepseek4.expert_weights_norm", scalar<uint8_t>(ValueType::kBool, 1)},
      {"tokenizer.ggml.tokens",
       array_of(ValueType::kString, 3, str("a") + str("") + str("\u00e9t\u00e9"))},
      {"ratios", array_of(ValueType::kI32, 3, raw(0) + raw(4) + raw(128))},
  };
  std::vector<TensorRecord> tensors = {
      {"b.weight", {64, 3}, 8, 64},  // Q8_0: 3 rows of 68 bytes
      {"a.weight", {4, 2, 1, 2}, 0, 0},
  };
  uint64_t n_data = 64 + 204;

  std::string bytes() const {
    std::string s = raw(magic) + raw(version);
    s += raw(n_tensors < 0 ? static_cast<int64_t>(tensors.size()) : n_tensors);
    s += raw(n_kv < 0 ? static_cast<int64_t>(metadata.size()) : n_kv);
    for (const auto& [key, value] : metadata) s += str(key) + value;
    for (const TensorRecord& t : tensors) {
      s += str(t.name) + raw(t.n_dims < 0 ? static_cast<uint32_t>(t.dims.size()) : t.n_dims);
      for (const int64_t d : t.dims) s += raw(d);
      s += raw(t.type) + raw(t.offset);
    }
    while (s.size() % alignment != 0) s += '\0';
    for (uint64_t i = 0; i < n_data; i++) s += static_cast<char>(i);
    return s;
  }
};

std::span<const std::byte> as_span(const std::string& s) { return std::as_bytes(std::span(s)); }

// Reads everything a user of the file could; returns a value so that nothing is optimised away.
uint64_t use_all(const File& file, const std::string& bytes) {
  uint64_t sum = 0;
  for (const KeyValue& kv : file.metadata()) {
    sum += describe(kv.value).size();
    for (const std::string_view s : kv.value.strings()) sum += s.empty() ? 0 : s.back();
    if (const auto v = file.get_ints(kv.key); v.ok()) sum += v->size();
    if (const auto v = file.get_floats(kv.key); v.ok()) sum += v->size();
    if (const auto v = file.get_bool(kv.key); v.ok()) sum += *v;
    EXPECT_EQ(file.find(kv.key)->data, kv.value.data);
  }
  for (const Tensor& t : file.tensors()) {
    EXPECT_GE(t.data, as_span(bytes).data());
    EXPECT_LE(t.data + t.n_bytes, as_span(bytes).data() + bytes.size());
    EXPECT_EQ(file.tensor(t.name), &t);
    for (uint64_t i = 0; i < t.n_bytes; i++) sum += static_cast<uint64_t>(t.data[i]);
  }
  return sum;
}

TEST(GgufReader, ReadsEveryField) {
  const std::string bytes = Image().bytes();
  auto file = File::from_memory(as_span(bytes), "image");
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->name(), "image");
  EXPECT_EQ(file->file_bytes(), bytes.size());
  EXPECT_EQ(file->alignment(), 32u);
  EXPECT_EQ(file->data_offset(), bytes.size() - 268);

  EXPECT_EQ(*file->get_string("general.architecture"), "deepseek4");
  EXPECT_EQ(*file->get_int("deepseek4.block_count"), 43);
  EXPECT_EQ(*file->get_float("deepseek4.rope.freq_base"), 10000.0);
  EXPECT_TRUE(*file->get_bool("deepseek4.expert_weights_norm"));
  EXPECT_EQ(*file->get_strings("tokenizer.ggml.tokens"),
            (std::vector<std::string_view>{"a", "", "\u00e9t\u00e9"}));
  EXPECT_EQ(*file->get_ints("ratios"), (std::vector<int64_t>{0, 4, 128}));
  EXPECT_TRUE(file->has("ratios"));
  EXPECT_FALSE(file->has("ratio"));
  EXPECT_EQ(file->metadata().size(), 6u);
  EXPECT_EQ(file->metadata()[1].key, "deepseek4.block_count");

  ASSERT_EQ(file->tensors().size(), 2u);
  const Tensor* b = file->tensor("b.weight");
  ASSERT_EQ(b, &file->tensors()[0]);
  EXPECT_EQ(b->type, DType::kQ8_0);
  EXPECT_EQ(b->n_dims, 2);
  EXPECT_EQ(b->dims, (std::array<int64_t, 4>{64, 3, 1, 1}));
  EXPECT_EQ(b->n_elements(), 192);
  EXPECT_EQ(b->n_rows(), 3);
  EXPECT_EQ(b->n_bytes, 204u);
  EXPECT_EQ(b->offset, file->data_offset() + 64);
  EXPECT_EQ(static_cast<int>(b->data[0]), 64);
  EXPECT_EQ(file->tensor("a.weight")->n_rows(), 4);
  EXPECT_EQ(file->tensor("c.weight"), nullptr);
}

TEST(GgufReader, HandedOutViewsSurviveAMove) {
  const std::string bytes = Image().bytes();
  auto opened = File::from_memory(as_span(bytes), "image");
  ASSERT_TRUE(opened.ok());
  File file = *std::move(opened);
  const Tensor* a = file.tensor("a.weight");
  const std::string_view arch = *file.get_string("general.architecture");
  const File moved = std::move(file);
  EXPECT_EQ(moved.tensor("a.weight"), a);
  EXPECT_EQ(moved.get_string("general.architecture")->data(), arch.data());
}

TEST(GgufReader, AcceptsAnyWidth) {
  Image image;
  image.metadata = {
      {"u8", scalar<uint8_t>(ValueType::kU8, 200)},
      {"i8", scalar<int8_t>(ValueType::kI8, -100)},
      {"u16", scalar<uint16_t>(ValueType::kU16, 60000)},
      {"i16", scalar<int16_t>(ValueType::kI16, -30000)},
      {"u32", scalar<uint32_t>(ValueType::kU32, 4000000000u)},
      {"i32", scalar<int32_t>(ValueType::kI32, -2000000000)},
      {"u64", scalar<uint64_t>(ValueType::kU64, uint64_t{1} << 62)},
      {"i64", scalar<int64_t>(ValueType::kI64, -(int64_t{1} << 62))},
      {"f32", scalar<float>(ValueType::kF32, 1.5f)},
      {"f64", scalar<double>(ValueType::kF64, 1e-6)},
      {"huge", scalar<uint64_t>(ValueType::kU64, ~uint64_t{0})},
      {"u32s", array_of(ValueType::kU32, 2, raw(4u) + raw(128u))},
      {"u16s", array_of(ValueType::kU16, 2, raw<uint16_t>(4) + raw<uint16_t>(128))},
      {"f64s", array_of(ValueType::kF64, 2, raw(0.5) + raw(2.0))},
      {"none", array_of(ValueType::kF32, 0, "")},
  };
  const std::string bytes = image.bytes();
  auto file = File::from_memory(as_span(bytes), "image");
  ASSERT_TRUE(file.ok()) << file.status().message();
  const std::pair<const char*, int64_t> ints[] = {{"u8", 200},
                                                  {"i8", -100},
                                                  {"u16", 60000},
                                                  {"i16", -30000},
                                                  {"u32", 4000000000},
                                                  {"i32", -2000000000},
                                                  {"u64", int64_t{1} << 62},
                                                  {"i64", -(int64_t{1} << 62)}};
  for (const auto& [key, value] : ints) {
    EXPECT_EQ(*file->get_int(key), value) << key;
    EXPECT_EQ(*file->get_float(key), static_cast<double>(value)) << key;
    EXPECT_EQ(*file->get_ints(key), std::vector<int64_t>{value}) << key;
  }
  EXPECT_EQ(*file->get_float("f32"), 1.5);
  EXPECT_EQ(*file->get_float("f64"), 1e-6);
  EXPECT_EQ(*file->get_float("huge"), 18446744073709551615.0);
  EXPECT_FALSE(file->get_int("huge").ok());
  EXPECT_EQ(*file->get_ints("u32s"), (std::vector<int64_t>{4, 128}));
  EXPECT_EQ(*file->get_ints("u16s"), (std::vector<int64_t>{4, 128}));
  EXPECT_EQ(*file->get_floats("u16s"), (std::vector<double>{4, 128}));
  EXPECT_EQ(*file->get_floats("f64s"), (std::vector<double>{0.5, 2}));
  EXPECT_EQ(*file->get_floats("f32"), std::vector<double>{1.5});
  EXPECT_TRUE(file->get_floats("none")->empty());
}

TEST(GgufReader, WrongKindsNameKeyFoundAndExpected) {
  const std::string bytes = Image().bytes();
  auto file = File::from_memory(as_span(bytes), "image");
  ASSERT_TRUE(file.ok());
  const auto expect = [](const Status& s, const std::vector<std::string>& parts) {
    EXPECT_EQ(s.code(), Code::kBadInput);
    for (const std::string& part : parts)
      EXPECT_NE(s.message().find(part), std::string::npos) << s.message() << "\nlacks " << part;
  };
  expect(file->get_int("absent").status(), {"image", "\"absent\"", "none"});
  expect(file->get_int("deepseek4.rope.freq_base").status(),
         {"\"deepseek4.rope.freq_base\"", "f32 10000", "an integer"});
  expect(file->get_int("ratios").status(), {"array of 3 i32", "an integer"});
  expect(file->get_float("general.architecture").status(), {"string \"deepseek4\"", "a number"});
  expect(file->get_float("deepseek4.expert_weights_norm").status(), {"bool true", "a number"});
  expect(file->get_bool("deepseek4.block_count").status(), {"u32 43", "a bool"});
  expect(file->get_string("tokenizer.ggml.tokens").status(), {"array of 3 string", "a string"});
  expect(file->get_strings("ratios").status(), {"array of 3 i32", "strings"});
  expect(file->get_ints("tokenizer.ggml.tokens").status(), {"array of 3 string", "integers"});
  expect(file->get_floats("tokenizer.ggml.tokens").status(), {"array of 3 string", "numbers"});
}

struct Fault {
  const char* label;
  std::function<void(Image&)> bend;
  std::vector<std::string> parts;  // of the message
};

const Fault kFaults[] = {
    {"magic", [](Image& i) { i.magic = 0x4c4d4747; }, {"not a GGUF file"}},
    {"version 1", [](Image& i) { i.version = 1; }, {"version 1", "expected 3"}},
    {"version 2", [](Image& i) { i.version = 2; }, {"version 2", "expected 3"}},
    {"version 4", [](Image& i) { i.version = 4; }, {"version 4", "expected 3"}},
    {"big-endian", [](Image& i) { i.version = 0x03000000; }, {"big-endian"}},
    {"tensor count", [](Image& i) { i.n_tensors = int64_t{1} << 60; }, {"tensor count"}},
    {"tensor count + 1", [](Image& i) { i.n_tensors = 3; }, {"tensor 2"}},
    {"metadata count", [](Image& i) { i.n_kv = INT64_MAX; }, {"metadata count"}},
    {"metadata count - 1", [](Image& i) { i.n_kv = 5; }, {}},
    {"value type",
     [](Image& i) { i.metadata[1].second[0] = 13; },
     {"value type 13", "block_count"}},
    {"element type", [](Image& i) { i.metadata[5].second[4] = 99; }, {"value type 99", "ratios"}},
    {"array of arrays", [](Image& i) { i.metadata[5].second[4] = 9; }, {"an array of arrays"}},
    {"bool of 2", [](Image& i) { i.metadata[3].second[4] = 2; }, {"a bool of 2"}},
    {"key length",
     [](Image& i) {
       i.metadata[5] = {"", scalar(ValueType::kU64, ~0ull)};
     },
     {"empty name"}},
    {"key bytes", [](Image& i) { i.metadata[2].first = "a\xff"; }, {"UTF-8"}},
    {"duplicate key", [](Image& i) { i.metadata[2] = i.metadata[1]; }, {"block_count", "twice"}},
    {"string length",
     [](Image& i) { i.metadata[0].second = raw(uint32_t{8}) + raw(~uint64_t{0}); },
     {"general.architecture", "18446744073709551615 more"}},
    {"array length",
     [](Image& i) { i.metadata[5].second = array_of(ValueType::kF64, ~0ull, ""); },
     {"ratios", "18446744073709551615 elements of type f64"}},
    // 2^61 elements of 8 bytes wrap to 0 in 64 bits.
    {"array length that wraps",
     [](Image& i) { i.metadata[5].second = array_of(ValueType::kI64, uint64_t{1} << 61, ""); },
     {"ratios", "elements of type i64"}},
    {"string array length",
     [](Image& i) { i.metadata[4].second = array_of(ValueType::kString, uint64_t{1} << 61, ""); },
     {"tokens", "elements of type string"}},
    {"string in an array",
     [](Image& i) {
       i.metadata[4].second = array_of(ValueType::kString, 2, str("a") + raw(~uint64_t{0} - 7));
     },
     {"tokens", "more"}},
    {"alignment 0",
     [](Image& i) {
       i.metadata[1] = {"general.alignment", scalar<uint32_t>(ValueType::kU32, 0)};
     },
     {"general.alignment", "found 0", "a power of two"}},
    {"alignment 48",
     [](Image& i) {
       i.metadata[1] = {"general.alignment", scalar<uint32_t>(ValueType::kU32, 48)};
     },
     {"general.alignment", "found 48", "a power of two"}},
    {"alignment as text",
     [](Image& i) {
       i.metadata[1] = {"general.alignment", text("32")};
     },
     {"general.alignment", "string \"32\""}},
    {"alignment past the file",
     [](Image& i) {
       i.metadata[1] = {"general.alignment", scalar(ValueType::kU64, uint64_t{1} << 62)};
     },
     {"offset 64"}},
    {"split",
     [](Image& i) {
       i.metadata[1] = {"split.count", scalar<uint16_t>(ValueType::kU16, 4)};
     },
     {"one of 4 parts", "merge"}},
    {"no name", [](Image& i) { i.tensors[0].name = ""; }, {"tensor 0", "empty name"}},
    {"name bytes", [](Image& i) { i.tensors[0].name = "\xc0\x80"; }, {"UTF-8"}},
    {"duplicate name", [](Image& i) { i.tensors[1].name = "b.weight"; }, {"b.weight", "twice"}},
    {"0 dimensions", [](Image& i) { i.tensors[0].dims = {}; }, {"b.weight", "0 dimensions"}},
    {"5 dimensions",
     [](Image& i) {
       i.tensors[0].dims = {32, 1, 1, 1, 1};
     },
     {"b.weight", "5 dimensions"}},
    {"2^32 - 1 dimensions", [](Image& i) { i.tensors[1].n_dims = INT32_MAX; }, {"a.weight"}},
    {"dimension 0", [](Image& i) { i.tensors[0].dims[1] = 0; }, {"dimension 1 of 0"}},
    {"dimension 2^63",
     [](Image& i) { i.tensors[0].dims[1] = INT64_MIN; },
     {"dimension 1 of 9223372036854775808"}},
    {"dimensions overflow",
     [](Image& i) {
       i.tensors[1].dims = {int64_t{1} << 32, int64_t{1} << 32, 1, 2};
     },
     {"a.weight", "2^63 elements"}},
    {"bytes overflow",
     [](Image& i) {
       i.tensors[1].dims = {int64_t{1} << 62};
       i.tensors[1].type = 28;
     },
     {"a.weight", "2^64 bytes"}},
    {"bytes past any file",
     [](Image& i) { i.tensors[1].dims = {int64_t{1} << 60}; },
     {"a.weight", "cut short"}},
    {"type 40", [](Image& i) { i.tensors[0].type = 40; }, {"b.weight", "type 40"}},
    {"type 41", [](Image& i) { i.tensors[0].type = 41; }, {"b.weight", "type 41"}},
    {"type 2^32 - 1", [](Image& i) { i.tensors[0].type = UINT32_MAX; }, {"type 4294967295"}},
    {"half a block",
     [](Image& i) { i.tensors[0].dims[0] = 48; },
     {"b.weight", "rows of 48", "q8_0 blocks of 32"}},
    {"offset of 8",
     [](Image& i) { i.tensors[0].offset = 72; },
     {"b.weight", "offset 72", "alignment 32"}},
    {"offset at the end", [](Image& i) { i.tensors[0].offset = 288; }, {"b.weight", "cut short"}},
    {"offset that wraps",
     [](Image& i) { i.tensors[0].offset = ~uint64_t{31}; },
     {"b.weight", "cut short"}},
    {"last byte missing", [](Image& i) { i.n_data--; }, {"b.weight", "cut short"}},
    {"no data", [](Image& i) { i.n_data = 0; }, {"cut short"}},
};

TEST(GgufReader, RefusesEveryFaultInOneLine) {
  ASSERT_TRUE(File::from_memory(as_span(Image().bytes()), "image").ok());
  for (const Fault& fault : kFaults) {
    Image image;
    fault.bend(image);
    const std::string bytes = image.bytes();
    const auto file = File::from_memory(as_span(bytes), "image");
    ASSERT_FALSE(file.ok()) << fault.label;
    const std::string& message = file.status().message();
    EXPECT_EQ(file.status().code(), Code::kBadInput) << fault.label;
    EXPECT_EQ(message.find("image: "), 0u) << fault.label << ": " << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    for (const std::string& part : fault.parts)
      EXPECT_NE(message.find(part), std::string::npos)
          << fault.label << ": " << message << "\nlacks " << part;
  }
}

TEST(GgufReader, AcceptsWhatIsUnusualButSound) {
  const std::pair<const char*, std::function<void(Image&)>> cases[] = {
      {"tensors that share bytes", [](Image& i) { i.tensors[0].offset = 0; }},
      {"no padding after the last tensor", [](Image& i) { i.n_data = 268; }},
      {"bytes after the last tensor", [](Image& i) { i.n_data = 1000; }},
      {"no metadata", [](Image& i) { i.metadata.clear(); }},
      {"no tensors",
       [](Image& i) {
         i.tensors.clear();
         i.n_data = 0;
         i.alignment = 1;
       }},
      {"split of one",
       [](Image& i) {
         i.metadata[0] = {"split.count", scalar<uint16_t>(ValueType::kU16, 1)};
       }},
      {"unknown keys and tensors",
       [](Image& i) {
         i.metadata.push_back({"x", text("y")});
         i.tensors.push_back({"z", {1}, 0, 0});
       }},
      {"alignment 1 as i64",
       [](Image& i) {
         i.metadata[0] = {"general.alignment", scalar<int64_t>(ValueType::kI64, 1)};
         i.alignment = 1;
         i.tensors[0].offset = 63;
       }},
  };
  for (const auto& [label, bend] : cases) {
    Image image;
    bend(image);
    const std::string bytes = image.bytes();
    const auto file = File::from_memory(as_span(bytes), "image");
    ASSERT_TRUE(file.ok()) << label << ": " << file.status().message();
    use_all(*file, bytes);
  }
}

TEST(GgufReader, RefusesEveryTruncation) {
  const std::string whole = Image().bytes();
  for (size_t n = 0; n < whole.size(); n++) {
    const std::string part(whole.data(), n);  // its own allocation, for AddressSanitizer
    EXPECT_FALSE(File::from_memory(as_span(part), "image").ok()) << n << " bytes";
  }
}

TEST(GgufReader, SurvivesFlippedBytes) {
  const std::string whole = Image().bytes();
  const size_t header = whole.size() - 268;
  std::mt19937 random(1);
  int n_open = 0, n_refused = 0;
  const auto attempt = [&](const std::string& bytes) {
    const auto file = File::from_memory(as_span(bytes), "image");
    file.ok() ? n_open++ : n_refused++;
    if (file.ok()) use_all(*file, bytes);
  };
  for (size_t at = 0; at < header; at++) {
    for (const int value : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      std::string bytes = whole;
      bytes[at] = static_cast<char>(value);
      attempt(bytes);
    }
  }
  for (int round = 0; round < 20000; round++) {
    std::string bytes = whole;
    for (uint32_t flips = 1 + random() % 4; flips > 0; flips--)
      bytes[random() % header] ^= static_cast<char>(1 << random() % 8);
    attempt(bytes);
  }
  // Both ways must have been taken, or the test has lost its bite.
  EXPECT_GT(n_open, 1000);
  EXPECT_GT(n_refused, 1000);
}

TEST(GgufReader, OpensALargeFileWithoutReadingIt) {
  Image image;
  image.n_data = 0;
  // F32, 128 GiB; more does not always map under ThreadSanitizer.
  image.tensors[0].dims = {1 << 20, 1 << 15};
  image.tensors[0].type = 0;
  const std::string header = image.bytes();
  const std::string path = fmt::format("{}narwhal_{}_sparse.gguf", TempDir(), getpid());
  auto out = AtomicFile::create(path);
  ASSERT_TRUE(out.ok());
  const uint64_t n_bytes = header.size() + 64 + (uint64_t{1} << 37);
  ASSERT_TRUE(out->resize(n_bytes).ok());
  ASSERT_TRUE(out->write_at(0, header.data(), header.size()).ok());
  ASSERT_TRUE(out->commit().ok());

  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  const auto file = File::open(path);
  getrusage(RUSAGE_SELF, &after);
  std::remove(path.c_str());
  ASSERT_TRUE(file.ok()) << file.status().message();
  EXPECT_EQ(file->file_bytes(), n_bytes);
  EXPECT_EQ(file->tensor("b.weight")->n_bytes, uint64_t{1} << 37);
  const int64_t faults = after.ru_minflt + after.ru_majflt - before.ru_minflt - before.ru_majflt;
  EXPECT_LT(faults, 4096);  // pages; the file has 2^25
}

TEST(GgufReader, NamesAMissingOrEmptyFile) {
  const auto missing = File::open(TempDir() + "narwhal_no_such.gguf");
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.status().message().find("narwhal_no_such.gguf"), std::string::npos);
  EXPECT_FALSE(File::from_memory({}, "empty").ok());
}

}  // namespace
}  // namespace narwhal::gguf
