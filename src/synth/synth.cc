#include "synth/synth.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <mutex>
#include <optional>
#include <system_error>
#include <utility>

#include "base/progress.h"
#include "base/threads.h"
#include "gguf/names.h"
#include "gguf/writer.h"
#include "synth/plan.h"
#include "synth/space.h"
#include "synth/vocabulary.h"

namespace narwhal {
namespace {

using synth_detail::BlockFiller;
using synth_detail::NormalTable;
using synth_detail::PlannedTensor;
namespace names = gguf::names;

constexpr char kMtpArchitecture[] = "deepseek4_mtp_support";
constexpr int64_t kChunkBytes = 1 << 20;  // a border of the random stream: part of the contents
constexpr uint64_t kGateFrom = uint64_t{4} << 30;  // smaller files never wait for memory

enum class Sparse { kNone, kExperts, kAll };

Result<Sparse> parse_sparse(const std::string& name) {
  if (name == "none") return Sparse::kNone;
  if (name == "experts") return Sparse::kExperts;
  if (name == "all") return Sparse::kAll;
  return usage(fmt::format("--sparse {}: expected none, experts or all", name));
}

bool is_written(const PlannedTensor& t, Sparse sparse) {
  return t.alias_of < 0 && sparse != Sparse::kAll && !(sparse == Sparse::kExperts && t.is_expert());
}

void describe(const Config& config, const SynthOptions& options, gguf::Writer& writer) {
  write_config(config, writer);
  writer.add_u32(names::kGeneralQuantVersion, 2);
  if (!options.mtp) return;
  writer.add_string(names::kGeneralArchitecture, kMtpArchitecture);
  writer.add_u32(names::kMtpLayerCount, 1);
  writer.add_u32(names::kNextnLayers, 1);
}

// Declared in the order of the plan, so that indices agree.
void declare(const std::vector<PlannedTensor>& plan, gguf::Writer& writer) {
  for (const PlannedTensor& t : plan) {
    if (t.alias_of >= 0)
      writer.add_alias(t.spec.name, t.type, t.spec.dims, t.alias_of);
    else
      writer.add_tensor(t.spec.name, t.type, t.spec.dims);
  }
}

void report_tensors(const std::vector<PlannedTensor>& plan, Sparse sparse,
                    const gguf::Writer& writer, SynthReport& report) {
  report.file_bytes = writer.file_bytes();
  report.data_bytes = writer.file_bytes() - (plan.empty() ? 0 : writer.tensor_offset(0));
  for (int i = 0; i < static_cast<int>(plan.size()); i++) {
    const PlannedTensor& t = plan[i];
    report.tensors.push_back({t.spec.name, t.type, t.spec.dims, writer.tensor_offset(i),
                              static_cast<uint64_t>(t.n_bytes()), t.alias_of >= 0});
    report.n_elements += t.n_elements();
    if (is_written(t, sparse)) report.written_bytes += t.n_bytes();
  }
}

struct Chunk {
  int tensor;
  int64_t first, count;  // blocks
};

std::vector<Chunk> split(const std::vector<PlannedTensor>& plan,
                         const std::vector<std::optional<BlockFiller>>& fillers) {
  std::vector<Chunk> chunks;
  for (int i = 0; i < static_cast<int>(plan.size()); i++) {
    if (!fillers[i]) continue;
    const int64_t n = plan[i].n_elements() / block_elements(plan[i].type);
    const int64_t step = fillers[i]->blocks_in(kChunkBytes);
    for (int64_t b = 0; b < n; b += step) chunks.push_back({i, b, std::min(step, n - b)});
  }
  return chunks;
}

Status write_tensors(const std::vector<PlannedTensor>& plan, Sparse sparse,
                     const SynthOptions& options, const SynthReport& report, gguf::Writer& writer) {
  if (report.written_bytes == 0) return ok_status();
  const NormalTable table;
  std::vector<std::optional<BlockFiller>> fillers(plan.size());
  for (size_t i = 0; i < plan.size(); i++)
    if (is_written(plan[i], sparse)) fillers[i].emplace(plan[i].type, plan[i].fill, table);
  const std::vector<Chunk> chunks = split(plan, fillers);

  ThreadPool pool(report.threads);
  synth_detail::MemoryGate gate(report.written_bytes < kGateFrom ? 0
                                                                 : options.memory_floor_mib << 20);
  Progress bar("writing", static_cast<int64_t>(report.written_bytes));
  std::vector<std::vector<uint8_t>> buffers(pool.size());
  std::atomic<int64_t> done{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  Status fault;
  pool.run(static_cast<int64_t>(chunks.size()), 1, [&](int64_t begin, int64_t end, int thread) {
    std::vector<uint8_t>& buffer = buffers[thread];
    buffer.resize(kChunkBytes);
    for (int64_t c = begin; c < end && !stop; c++) {
      const Chunk& k = chunks[c];
      const int64_t block = dtype_info(plan[k.tensor].type).block_bytes;
      fillers[k.tensor]->write(k.first, k.count, buffer.data());
      gate.pass();
      const Status s = writer.write(k.tensor, k.first * block, buffer.data(), k.count * block);
      if (!s.ok() && !stop.exchange(true)) {
        std::lock_guard lock(mutex);
        fault = s;
      }
      done += k.count * block;
      if (thread == 0) bar.update(done);
    }
  });
  return fault;
}

}  // namespace

Result<SynthReport> synth(const SynthOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  if (options.out.empty() && !options.dry_run)
    return usage("--out FILE is missing; give one, or --dry-run");
  if (std::error_code error; std::filesystem::is_directory(options.out, error))
    return failed(options.out + " is a folder, expected the name of a file");
  if (options.alias_experts < 0 || options.threads < 0)
    return usage("--alias-experts and --threads: expected 0 or more");
  if (options.alignment < 8 || (options.alignment & (options.alignment - 1)) != 0)
    return usage(
        fmt::format("--alignment {}: expected a power of two, 8 or more", options.alignment));
  NW_ASSIGN(const Sparse sparse, parse_sparse(options.sparse));
  SynthReport report;
  NW_ASSIGN(report.config, synth_config(options));
  report.threads = options.threads > 0 ? options.threads : default_thread_count();
  NW_ASSIGN(const std::vector<PlannedTensor> plan,
            synth_detail::plan_tensors(report.config, options));

  gguf::Writer writer(options.alignment);
  describe(report.config, options, writer);
  if (!options.mtp) {
    NW_ASSIGN(const text::Vocab vocab,
              synth_detail::make_vocabulary(options.tokenizer_json, report.config.n_vocab));
    synth_detail::write_vocabulary(vocab, writer);
  }
  declare(plan, writer);
  report_tensors(plan, sparse, writer, report);
  if (!options.dry_run) {
    const uint64_t header = report.file_bytes - report.data_bytes;
    if (!options.ignore_space)
      NW_TRY(synth_detail::check_space(options.out, header + report.written_bytes));
    NW_TRY(writer.begin(options.out));
    NW_TRY(write_tensors(plan, sparse, options, report, writer));
    NW_TRY(writer.finish());
  }
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace narwhal
