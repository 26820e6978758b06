// Engine: one loaded model, ready to hold sessions.
//
//   NW_ASSIGN(auto engine, Engine::open({.model = "flash-q2.gguf", .n_ctx = 32768}));
//   NW_ASSIGN(auto session, engine->new_session());
//
// The model file is mapped, not read: opening is fast and pages come in when first used. The memory
// plan is made before anything is allocated and refuses early (kNoMemory, saying what would fit).
// An Engine may be shared by threads; its sessions take turns on the device.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "narwhal/session.h"
#include "narwhal/status.h"

namespace narwhal {

class KvStore;
namespace text {
class Tokenizer;
}

// Whether KV rows are rounded as the model was trained (FP8, FP4, BF16), or kept in f32 for
// comparison with references that do not simulate the rounding.
enum class KvPrecision { kTrained, kF32 };

struct EngineOptions {
  std::string model = {};          // path of a GGUF; empty = the embedded Minnow
  std::string backend = "auto";    // auto, cuda, cpu, ref, emu
  std::string cpu_level = "auto";  // auto, portable, avx2, avx512, amx, neon, i8mm
  int n_threads = 0;               // 0 = one per physical core
  std::string pin = "auto";   // threads stay on a core each: on, off, auto = with several nodes
  int64_t n_ctx = 0;          // tokens per session; 0 = what the model and the memory allow
  int n_sessions = 1;         // sessions alive at once that the plan must hold
  int prefill_chunk = 0;      // rows computed at once; 0 = the backend's choice
  int64_t gpu_memory_mb = 0;  // of the GPU's memory to use; 0 = what is free
  KvPrecision kv_precision = KvPrecision::kTrained;
  std::string kv_disk_dir = {};     // where computed prefixes are kept across runs; empty = nowhere
  int64_t kv_disk_space_mb = 8192;  // budget of that folder
};

struct ModelInfo {
  std::string name;
  std::string path;            // "(embedded)" for the built-in model
  std::string prompt_profile;  // "preview" or "0731"
  int64_t n_params = 0;
  int64_t n_tensors = 0;
  uint64_t file_bytes = 0;    // on disk
  uint64_t tensor_bytes = 0;  // sum over tensors; more than the file where tensors share bytes
  int64_t n_vocab = 0;
  int64_t max_ctx = 0;
  std::vector<std::pair<std::string, std::string>> card;  // what `inspect` prints: label, value
};

// Bytes by purpose; made from the file's header alone, so it works for models larger than this
// machine.
struct MemoryPlan {
  uint64_t weights_bytes = 0;  // mapped; the system may drop and reread them
  // Of these, experts that stay in this machine's memory, pinned, because the GPU's is too small.
  uint64_t host_weights_bytes = 0;
  uint64_t kv_session_bytes = 0;  // rows of one session at n_ctx
  uint64_t frontier_bytes = 0;    // one session: window and compressor state
  uint64_t workspace_bytes = 0;   // activations of one chunk, logits of one token a session
  // What only some runs take, and bit by bit: earlier frontiers that one session keeps to go back
  // to, and logits of many tokens of one step, as scoring a text wants them.
  uint64_t kept_bytes = 0, scoring_bytes = 0;
  uint64_t total_bytes = 0;      // weights and most_bytes(), without host_weights_bytes
  uint64_t available_bytes = 0;  // free for use on the device that computes
  int64_t n_ctx = 0;
  int n_sessions = 1;
  bool fits() const { return total_bytes <= available_bytes; }
  // Beside the weights: what is taken when the sessions are full, and the most that may be.
  uint64_t run_bytes() const {
    return workspace_bytes +
           static_cast<uint64_t>(n_sessions) * (kv_session_bytes + frontier_bytes);
  }
  uint64_t most_bytes() const {
    return run_bytes() + scoring_bytes + static_cast<uint64_t>(n_sessions) * kept_bytes;
  }
};

// The way of the weights to a device with memory of its own; zeros where they are computed with as
// they are mapped.
struct LoadStats {
  uint64_t bytes = 0;  // each once where tensors share them
  double seconds = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;

  static Result<std::unique_ptr<Engine>> open(const EngineOptions& options);
  // Header and plan only: no weights are touched, nothing is refused for its size.
  static Result<std::pair<ModelInfo, MemoryPlan>> inspect(const EngineOptions& options);

  virtual const ModelInfo& info() const = 0;
  virtual const MemoryPlan& plan() const = 0;
  virtual const LoadStats& load_stats() const = 0;
  // Bytes beside the weights that this run has come to use: run_bytes() for what has been computed
  // so far, scoring and kept frontiers as they are. At most plan().most_bytes().
  virtual uint64_t used_bytes() const = 0;
  // Null when the file carries no tokenizer.
  virtual const text::Tokenizer* tokenizer() const = 0;

  // The prefixes on disk; null without kv_disk_dir.
  virtual KvStore* store() = 0;

  virtual Result<std::unique_ptr<Session>> new_session() = 0;

  // Appends to several sessions in one pass of the model, whatever mixture of prefill chunks and
  // decode rows; each session ends as if it had been alone. At most max_step_tokens() tokens in
  // all, every session at most once; logits are kept where asked for (of the last token). Sessions
  // taking part must not be used meanwhile. kNoMemory or kUsage touch no session.
  struct Append {
    Session* session = nullptr;
    std::span<const int32_t> tokens = {};
    bool logits = true;
  };
  virtual Status step(std::span<const Append> parts) = 0;
  virtual int max_step_tokens() const = 0;
};

}  // namespace narwhal
