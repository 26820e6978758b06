// What ops are timed on: weights in an arena, activations, and the state of one long sequence.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/backend.h"
#include "bench/ops_bench.h"
#include "model/activations.h"
#include "model/kv_layout.h"

namespace narwhal::bench {

// One thing to time.
struct Cell {
  std::string op, format;
  int n = 0;
  int64_t bytes = 0, macs = 0;
  std::function<void(int64_t turn)> run;  // `turn` counts calls and chooses the weights of each
  const float* out = nullptr;  // floats that it writes, to be looked at; null when it writes others
  int64_t n_out = 0;
};

class OpsRig {
 public:
  // Device memory for chunks of max_rows rows and a sequence of ctx tokens, of which the newest
  // max_rows are the chunk. kNoMemory.
  static Result<std::unique_ptr<OpsRig>> create(const Config& config, Backend& backend,
                                                int max_rows, uint64_t arena_bytes, int64_t ctx);
  ~OpsRig();
  OpsRig(const OpsRig&) = delete;
  OpsRig& operator=(const OpsRig&) = delete;

  // Fills the arena with weights of a format. Cells made before must not be run any more.
  void fill(DType format);

  Cell matvec() { return dense("matvec", 1); }
  Cell matmul(int n) { return dense("matmul", n); }
  Cell head();
  Cell experts();
  // As many experts as the arena holds, `n_experts` at most, each chosen by an equal part of the
  // rows.
  Cell grouped(int n, int n_experts);

  // Ops whose weights are F16 or Q8_0 in every file, with the arena filled so.
  std::vector<Cell> f16_cells(int n);
  std::vector<Cell> q8_cells(int n);
  // Ops without weights.
  std::vector<Cell> plain_cells(int n);

  // Whether the values a cell has written are finite and not all zero.
  bool sane(const Cell& cell) const;

 private:
  OpsRig(const Config& config, Backend& backend) : c_(config), backend_(backend) {}
  Status reserve(int max_rows, uint64_t arena_bytes, int64_t ctx);
  Result<std::byte*> take(int64_t n_bytes);
  // A weight in the arena as the backend computes with it.
  Weight adopted(const Weight& w) const;
  void fill_activations();
  void fill_sequence();

  Cell dense(std::string op, int n);
  // Another copy for every turn.
  Weight matrix(int64_t n_in, int64_t n_out, int64_t turn) const;
  ExpertParams stacks(int64_t n_experts) const;
  int n_experts_held() const;
  void choose_experts(int n, int n_experts, int64_t first);
  void stream_cells(int n, std::vector<Cell>& cells);
  void row_cells(int n, std::vector<Cell>& cells);
  void cache_cells(int n, std::vector<Cell>& cells);
  void index_cells(int n, std::vector<Cell>& cells);
  void attention_cells(int n, std::vector<Cell>& cells);
  BatchRows batch(int n) const;
  HcParams hc_params(const Weight& fn) const;

  const Config& c_;
  Backend& backend_;
  KvLayout layout_;
  Activations a_;
  KvMemory kv_;
  int max_rows_ = 0;
  int64_t ctx_ = 0;
  int csa_ = 0, hca_ = 0;  // a layer of each kind
  DType format_ = DType::kF16;
  std::byte* arena_ = nullptr;  // memory of this machine: devices adopt weights from it
  std::vector<std::byte> host_arena_;
  int64_t arena_bytes_ = 0;
  const float* parameters_ = nullptr;  // norms, bases, scales, sinks: values around one
  const float* rope_freq_ = nullptr;   // [rope / 2]
  int32_t* choice_ = nullptr;          // [max_rows][k] chosen experts
  std::vector<std::pair<std::byte*, int64_t>> taken_;
};

}  // namespace narwhal::bench
