// fuzz_seeds DIR: writes DIR/gguf/*, DIR/safetensors/* and DIR/kvfile/*, small valid files for the
// fuzzers to bend.
#include <fmt/format.h>

#include <cstdio>
#include <filesystem>

#include "base/file.h"
#include "gguf/writer.h"
#include "kvstore/kv_file.h"
#include "safetensors/writer.h"

namespace narwhal {
namespace {

Status finish(gguf::Writer& w, const std::string& path) {
  NW_TRY(w.begin(path));
  return w.finish();
}

Status gguf_seeds(const std::string& dir) {
  gguf::Writer empty;
  NW_TRY(finish(empty, dir + "/empty.gguf"));

  gguf::Writer kinds(8);
  kinds.add_u8("a", 1);
  kinds.add_i32("b", -2);
  kinds.add_u64("c", 3);
  kinds.add_f32("d", 0.5f);
  kinds.add_f64("e", 1e-6);
  kinds.add_bool("f", true);
  kinds.add_string("general.architecture", "deepseek4");
  kinds.add_i32s("g", std::vector<int32_t>{0, 4, 128});
  kinds.add_f32s("h", std::vector<float>{10, 10});
  kinds.add_strings("i", std::vector<std::string>{"", "x", "\u00e9"});
  kinds.add_u32("split.count", 1);
  NW_TRY(finish(kinds, dir + "/metadata.gguf"));

  gguf::Writer tensors;
  const std::vector<int64_t> shape = {4, 2, 1, 2};
  const int t = tensors.add_tensor("f", DType::kF32, shape);
  tensors.add_alias("alias", DType::kF16, shape, t, 32);
  tensors.add_tensor("q", DType::kQ8_0, {32, 2});
  tensors.add_tensor("m", DType::kMXFP4, {32});
  tensors.add_tensor("k", DType::kIQ2_XXS, {256});
  return finish(tensors, dir + "/tensors.gguf");
}

Status safetensors_seeds(const std::string& dir) {
  using safetensors::SourceType;
  using safetensors::Tensor;
  const std::string zeros(64, 0);
  const std::byte* data = std::as_bytes(std::span(zeros)).data();
  const Tensor tensors[] = {
      {"scalar", SourceType::kF32, {}, data, 4},
      {"w", SourceType::kBF16, {2, 3}, data, 12},
      {"w.scale", SourceType::kF8_E8M0, {1, 1}, data, 1},
      {"empty", SourceType::kI64, {0, 2}, data, 0},
  };
  NW_TRY(safetensors::write_file(dir + "/empty.safetensors", {}));
  return safetensors::write_file(dir + "/tensors.safetensors", tensors);
}

Status kv_seed(const std::string& path, KvHeader h) {
  h.fingerprint = 7;
  h.block_tokens = 4;
  if (h.start == 0) h.parent = chain_root(7, 4);
  h.id =
      h.kind == KvFileKind::kBlock ? block_id(h.parent, h.tokens) : frontier_id(h.parent, h.tokens);
  const std::string payload = "sixteen bytes...";
  const auto bytes = std::as_bytes(std::span(payload));
  h.payload_bytes = payload.size();
  h.payload_checksum = checksum_of(std::span(&bytes, 1));
  const std::vector<std::byte> header = encode_header(h);
  NW_ASSIGN(AtomicFile file, AtomicFile::create(path));
  NW_TRY(file.write_at(0, header.data(), header.size()));
  NW_TRY(file.write_at(header.size(), payload.data(), payload.size()));
  return file.commit();
}

Status kv_seeds(const std::string& dir) {
  const auto kFrontier = KvFileKind::kFrontier;
  NW_TRY(kv_seed(dir + "/first.block", {.tokens = {1, 2, 3, 4}}));
  NW_TRY(kv_seed(dir + "/later.block", {.start = 8, .parent = {1, 2}, .tokens = {-1, 0, 1, 9}}));
  NW_TRY(kv_seed(dir + "/first.frontier", {.kind = kFrontier, .tokens = {1, 2, 3}}));
  return kv_seed(dir + "/later.frontier",
                 {.kind = kFrontier, .start = 4, .parent = {3, 4}, .frontier_kind = 1});
}

Status run(const std::string& dir) {
  std::error_code error;
  for (const char* sub : {"/gguf", "/safetensors", "/kvfile"})
    std::filesystem::create_directories(dir + sub, error);
  NW_TRY(gguf_seeds(dir + "/gguf"));
  NW_TRY(kv_seeds(dir + "/kvfile"));
  return safetensors_seeds(dir + "/safetensors");
}

}  // namespace
}  // namespace narwhal

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: fuzz_seeds DIR\n", stderr);
    return static_cast<int>(narwhal::Code::kUsage);
  }
  const narwhal::Status status = narwhal::run(argv[1]);
  if (!status.ok()) fmt::print(stderr, "fuzz_seeds: {}\n", status.message());
  return static_cast<int>(status.code());
}
