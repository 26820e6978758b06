#include "narwhal/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <random>

#include "base/check.h"
#include "base/progress.h"
#include "engine/embedded_model.h"
#include "engine/fingerprint.h"
#include "engine/vocabulary.h"
#include "gguf/names.h"
#include "model/adopt.h"
#include "model/weights.h"
#include "residency/plan.h"
#include "session/timeline.h"

namespace narwhal {
namespace {

constexpr int kMaxLogitsRows = 64;  // at Flash a row of logits is half a megabyte

Result<gguf::File> open_model(const std::string& path) {
  if (path.empty()) return gguf::File::from_memory(embedded_model(), "(embedded)");
  return gguf::File::open(path);
}

std::string layer_text(const Config& c) {
  return fmt::format("{} ({} sliding, {} CSA, {} HCA)", c.n_layers,
                     c.n_layers_of(LayerKind::kSliding), c.n_layers_of(LayerKind::kCsa),
                     c.n_layers_of(LayerKind::kHca));
}

// Files that do not say are told apart as the spec has it: the drafter's settings mark the 0731
// release.
std::string prompt_profile(const Config& c, const std::string& path) {
  if (!c.prompt_profile.empty()) return c.prompt_profile;
  return path.find("0731") != std::string::npos ? "0731" : "preview";
}

ModelInfo describe(const gguf::File& file, const Config& c) {
  ModelInfo info;
  info.name = c.name.empty() ? file.name() : c.name;
  info.path = file.name();
  info.prompt_profile = prompt_profile(c, file.name());
  info.n_tensors = static_cast<int64_t>(file.tensors().size());
  info.file_bytes = file.file_bytes();
  info.n_vocab = c.n_vocab;
  info.max_ctx = c.max_ctx;
  std::map<std::string, std::pair<int64_t, uint64_t>> by_type;
  for (const gguf::Tensor& t : file.tensors()) {
    info.n_params += t.n_elements();
    info.tensor_bytes += t.n_bytes;
    auto& [count, bytes] = by_type[std::string(dtype_name(t.type))];
    count++;
    bytes += t.n_bytes;
  }
  std::string types;
  for (const auto& [name, v] : by_type)
    types += fmt::format("{}{} {} ({:.2f} GiB)", types.empty() ? "" : ", ", v.first, name,
                         static_cast<double>(v.second) / (1 << 30));
  info.card = {
      {"architecture", gguf::names::kArchitecture},
      {"layers", layer_text(c)},
      {"width", fmt::format("{} x {} streams", c.d_model, c.n_hc)},
      {"heads", fmt::format("{} of {} ({} with rope), one shared KV row", c.n_heads, c.head_dim,
                            c.rope_dim)},
      {"window", fmt::to_string(c.window)},
      {"indexer",
       fmt::format("{} heads of {}, top {}", c.n_index_heads, c.index_dim, c.index_top_k)},
      {"experts", fmt::format("{} of {}, {} used + {} shared, {} hash-routed layers", c.n_experts,
                              c.d_expert, c.n_experts_used, c.n_experts_shared, c.n_hash_layers)},
      {"vocabulary", fmt::to_string(c.n_vocab)},
      {"context", fmt::to_string(c.max_ctx)},
      {"prompt profile", info.prompt_profile},
      {"tensor types", types},
  };
  return info;
}

// Bytes of routed experts, each once where tensors share them.
uint64_t expert_bytes(const gguf::File& file) {
  std::map<uint64_t, uint64_t> by_offset;
  for (const gguf::Tensor& t : file.tensors())
    if (t.name.find("_exps.") != std::string::npos) by_offset[t.offset] = t.n_bytes;
  uint64_t n_bytes = 0;
  for (const auto& [offset, size] : by_offset) n_bytes += size;
  return n_bytes;
}

// What may be used of a device with memory, or a share of this machine's, of its own; nothing where
// all of this machine's is as good.
std::optional<uint64_t> device_limit(const EngineOptions& options, const Backend& backend) {
  std::optional<uint64_t> limit = backend.device_memory();
  if (options.gpu_memory_mb > 0 && (limit || backend.reads_host_memory())) {
    const uint64_t asked = static_cast<uint64_t>(options.gpu_memory_mb) << 20;
    limit = std::min(limit.value_or(asked), asked);
  }
  return limit;
}

// What open() and inspect() both need to know.
struct Blueprint {
  gguf::File file;
  Config config;
  KvLayout layout;
  PlanRequest request;
  MemoryPlan plan;
  ModelInfo info;
};

Result<Blueprint> draw(const EngineOptions& options, const Backend& backend) {
  if (options.n_ctx < 0 || options.n_sessions < 1 || options.prefill_chunk < 0)
    return usage(fmt::format("context {}, sessions {}, chunk {}: expected positive numbers",
                             options.n_ctx, options.n_sessions, options.prefill_chunk));
  NW_ASSIGN(gguf::File file, open_model(options.model));
  NW_ASSIGN(Config config, read_config(file));
  KvLayout layout = make_kv_layout(config, options.kv_precision);
  ModelInfo info = describe(file, config);
  PlanRequest request;
  // Tensors that share bytes are in memory once.
  request.weights_bytes = std::min(info.tensor_bytes, info.file_bytes);
  request.n_ctx = options.n_ctx;
  request.n_sessions = options.n_sessions;
  request.chunk = options.prefill_chunk > 0 ? options.prefill_chunk : backend.preferred_chunk();
  // No step is longer than all sessions together.
  if (options.n_ctx > 0)
    request.chunk =
        static_cast<int>(std::min<int64_t>(request.chunk, options.n_ctx * options.n_sessions));
  request.n_logits = std::min(std::max(kMaxLogitsRows, options.n_sessions), request.chunk);
  const StepShape shape{request.chunk, request.n_logits,
                        options.n_ctx > 0 ? options.n_ctx : config.max_ctx};
  const StepLimits limits = step_limits(config, shape);
  request.backend_bytes = static_cast<uint64_t>(backend.scratch_bytes(limits));
  const std::optional<uint64_t> device = device_limit(options, backend);
  const uint64_t available = device.value_or(available_memory());
  if (device && backend.reads_host_memory())
    request = move_experts_to_host(config, layout, request, available,
                                   std::min(expert_bytes(file), available_memory()));
  const MemoryPlan plan = make_plan(config, layout, request, available);
  return Blueprint{std::move(file), std::move(config), std::move(layout), request, plan,
                   std::move(info)};
}

class LoadedEngine : public Engine {
 public:
  LoadedEngine(EngineOptions options, Blueprint blueprint, std::unique_ptr<Backend> backend)
      : options_(std::move(options)), b_(std::move(blueprint)), backend_(std::move(backend)) {}

  Status load() {
    NW_ASSIGN(tokenizer_, read_tokenizer(b_.file, b_.config.n_vocab));
    NW_ASSIGN(const Weights mapped, bind_weights(b_.config, b_.file));
    if (b_.plan.host_weights_bytes > 0)
      fmt::print(stderr,
                 "narwhal: {} MiB of experts stay in this machine's memory, the GPU's is "
                 "too small\n",
                 b_.plan.host_weights_bytes >> 20);
    const int64_t n_bytes = adopted_bytes(b_.config, mapped);
    const auto start = std::chrono::steady_clock::now();
    Progress progress("load", n_bytes);
    NW_ASSIGN(weights_, adopt_weights(b_.config, mapped, *backend_,
                                      static_cast<int64_t>(b_.plan.host_weights_bytes),
                                      [&](int64_t n_done) { progress.update(n_done); }));
    if (!backend_->is_host())
      load_ = {static_cast<uint64_t>(n_bytes),
               std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count()};
    const int max_pages = static_cast<int>(KvLayout::n_pages(b_.plan.n_ctx));
    NW_ASSIGN(cache_, KvCache::create(b_.layout, *backend_, b_.plan.n_sessions,
                                      int64_t{max_pages} * b_.plan.n_sessions, max_pages));
    NW_ASSIGN(runner_, Runner::create(b_.config, weights_, b_.layout, *backend_,
                                      {b_.request.chunk, b_.request.n_logits, b_.plan.n_ctx}));
    host_.reset(new SessionHost{b_.config, b_.layout, *backend_, *runner_, *cache_});
    host_->n_ctx = b_.plan.n_ctx;
    host_->chunk = b_.request.chunk;
    host_->frontier_budget = frontier_budget(b_.layout);
    host_->fingerprint = state_fingerprint(b_.file, b_.layout);
    // Conversations of different runs must not replace each other's entries on disk.
    host_->next_conversation = uint64_t{std::random_device{}()} << 32;
    return open_store();
  }

  const ModelInfo& info() const override { return b_.info; }
  const MemoryPlan& plan() const override { return b_.plan; }
  const LoadStats& load_stats() const override { return load_; }
  uint64_t used_bytes() const override {
    const StepSize most = runner_->most();
    const StepShape shape{most.n_rows, most.n_logits, b_.plan.n_ctx};
    return static_cast<uint64_t>(backend_->scratch_bytes(step_limits(b_.config, shape)) +
                                 cache_->used_bytes() + Timeline::kept_bytes(*host_)) +
           workspace_bytes(b_.config, b_.layout, shape);
  }
  const text::Tokenizer* tokenizer() const override { return tokenizer_.get(); }
  KvStore* store() override { return store_.get(); }
  Result<std::unique_ptr<Session>> new_session() override {
    NW_ASSIGN(auto timeline, Timeline::create(*host_));
    return std::unique_ptr<Session>(std::move(timeline));
  }
  Status step(std::span<const Append> parts) override { return Timeline::step(*host_, parts); }
  int max_step_tokens() const override { return runner_->max_rows(); }

 private:
  Status open_store() {
    if (options_.kv_disk_dir.empty()) return ok_status();
    KvStoreOptions o;
    o.dir = options_.kv_disk_dir;
    o.budget_bytes = static_cast<uint64_t>(options_.kv_disk_space_mb) << 20;
    o.fingerprint = host_->fingerprint;
    // Nearer ends are computed again: conversations with little of their own then share one
    // frontier.
    o.min_frontier_gap = 384;
    NW_ASSIGN(store_, KvStore::open(std::move(o)));
    host_->store = store_.get();
    return ok_status();
  }

  EngineOptions options_;
  Blueprint b_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  Weights weights_;
  LoadStats load_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Runner> runner_;
  std::unique_ptr<KvStore> store_;
  std::unique_ptr<SessionHost> host_;
};

}  // namespace

Result<std::unique_ptr<Engine>> Engine::open(const EngineOptions& options) {
  NW_ASSIGN(auto backend, make_backend(options.backend, {.n_threads = options.n_threads,
                                                         .pin = options.pin,
                                                         .cpu_level = options.cpu_level,
                                                         .exact_products = options.kv_precision ==
                                                                           KvPrecision::kF32}));
  NW_ASSIGN(Blueprint blueprint, draw(options, *backend));
  NW_TRY(check_plan(blueprint.config, blueprint.layout, blueprint.request, blueprint.plan));
  auto engine = std::make_unique<LoadedEngine>(options, std::move(blueprint), std::move(backend));
  NW_TRY(engine->load());
  return std::unique_ptr<Engine>(std::move(engine));
}

Result<std::pair<ModelInfo, MemoryPlan>> Engine::inspect(const EngineOptions& options) {
  NW_ASSIGN(auto backend, make_backend(options.backend, {.n_threads = options.n_threads,
                                                         .cpu_level = options.cpu_level}));
  NW_ASSIGN(Blueprint blueprint, draw(options, *backend));
  return std::pair{std::move(blueprint.info), blueprint.plan};
}

}  // namespace narwhal
