#include "bench/ops_rig.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "base/check.h"
#include "model/rope.h"
#include "quant/quant.h"

namespace narwhal::bench {
namespace {

constexpr int64_t kPatternValues = 16384;  // encoded once and repeated all over the arena

std::vector<float> normal_values(int64_t n, float scale, uint32_t seed) {
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> v(n);
  for (float& x : v) x = normal(rng);
  return v;
}

}  // namespace

Result<std::unique_ptr<OpsRig>> OpsRig::create(const Config& config, Backend& backend, int max_rows,
                                               uint64_t arena_bytes, int64_t ctx) {
  std::unique_ptr<OpsRig> rig(new OpsRig(config, backend));
  NW_TRY(rig->reserve(max_rows, arena_bytes, ctx));
  rig->fill_activations();
  rig->fill_sequence();
  return rig;
}

OpsRig::~OpsRig() {
  for (const auto& [p, n] : taken_) backend_.release(p, n);
}

Result<std::byte*> OpsRig::take(int64_t n_bytes) {
  NW_ASSIGN(std::byte * p, backend_.allocate(n_bytes));
  taken_.emplace_back(p, n_bytes);
  return p;
}

Status OpsRig::reserve(int max_rows, uint64_t arena_bytes, int64_t ctx) {
  max_rows_ = max_rows;
  ctx_ = ctx;
  for (int i = 0; i < c_.n_layers; i++) {
    if (c_.layers[i] == LayerKind::kCsa) csa_ = i;
    if (c_.layers[i] == LayerKind::kHca) hca_ = i;
  }
  layout_ = make_kv_layout(c_, KvPrecision::kTrained);
  const StepShape shape{max_rows, max_rows, ctx};
  NW_TRY(backend_.prepare(step_limits(c_, shape)));
  // Logits need the whole vocabulary; no op here writes them.
  const StepShape own{max_rows, 0, ctx};
  const int64_t n_bytes = place_activations(c_, layout_, own, nullptr, a_);
  NW_ASSIGN(std::byte * activations, take(n_bytes));
  place_activations(c_, layout_, own, activations, a_);

  const int64_t n_pages = KvLayout::n_pages(ctx);
  NW_ASSIGN(kv_.pages, take(n_pages * layout_.page_bytes));
  NW_ASSIGN(kv_.frontiers, take(layout_.frontier_bytes));
  std::vector<int32_t> table(n_pages);
  for (int64_t i = 0; i < n_pages; i++) table[i] = static_cast<int32_t>(i);
  NW_ASSIGN(std::byte * device_table, take(n_pages * 4));
  backend_.copy_in(device_table, table.data(), n_pages * 4);
  kv_.page_table = reinterpret_cast<const int32_t*>(device_table);
  kv_.max_pages = static_cast<int>(n_pages);

  NW_ASSIGN(std::byte * choice, take(int64_t{max_rows} * c_.n_experts_used * 4));
  choice_ = reinterpret_cast<int32_t*>(choice);
  const int64_t n_parameters = std::max<int64_t>(c_.d_model, 4096);
  NW_ASSIGN(std::byte * parameters, take(n_parameters * 4));
  std::vector<float> around_one = normal_values(n_parameters, 0.1f, 3);
  for (float& v : around_one) v += 1;
  backend_.copy_in(parameters, around_one.data(), n_parameters * 4);
  parameters_ = reinterpret_cast<const float*>(parameters);
  const std::vector<float> freq = compressed_rope_freq(c_);
  NW_ASSIGN(std::byte * device_freq, take(static_cast<int64_t>(freq.size()) * 4));
  backend_.copy_in(device_freq, freq.data(), static_cast<int64_t>(freq.size()) * 4);
  rope_freq_ = reinterpret_cast<const float*>(device_freq);
  // Room for the experts of one row in the widest format.
  const int64_t expert = 3 * int64_t{c_.d_model} * c_.d_expert * 2;
  arena_bytes_ = std::max(static_cast<int64_t>(arena_bytes), c_.n_experts_used * expert);
  if (backend_.is_host()) {
    NW_ASSIGN(arena_, take(arena_bytes_));
  } else {
    host_arena_.resize(arena_bytes_);
    arena_ = host_arena_.data();
  }
  return ok_status();
}

void OpsRig::fill_activations() {
  const int64_t n = max_rows_, heads = int64_t{c_.n_heads} * c_.head_dim;
  const int64_t widest = n * std::max(heads, int64_t{c_.n_hc} * c_.d_model);
  const std::vector<float> v = normal_values(std::min<int64_t>(widest, 1 << 20), 1, 1);
  const auto put = [&](float* p, int64_t count) {
    for (int64_t at = 0; at < count; at += static_cast<int64_t>(v.size()))
      backend_.copy_in(p + at, v.data(),
                       std::min<int64_t>(count - at, static_cast<int64_t>(v.size())) * 4);
  };
  put(a_.X, n * c_.n_hc * c_.d_model);
  for (float* p : {a_.x, a_.out, a_.shared_out}) put(p, n * c_.d_model);
  for (float* p : {a_.q, a_.o}) put(p, n * heads);
  put(a_.qr, n * c_.q_lora);
  put(a_.kv, n * c_.head_dim);
  for (float* p : {a_.k, a_.s}) put(p, n * 2 * c_.head_dim);
  for (float* p : {a_.index_k, a_.index_s}) put(p, n * 2 * c_.index_dim);
  put(a_.index_q, n * c_.n_index_heads * c_.index_dim);
  put(a_.index_w, n * c_.n_index_heads);
  put(a_.o_low, n * c_.o_groups * c_.o_lora);
  put(a_.router, n * c_.n_experts);
  for (float* p : {a_.shared_gate, a_.shared_up}) put(p, n * c_.d_expert);
  put(a_.gates, n * c_.hc_mixes());

  // The chunk is the newest rows of one sequence.
  std::vector<int32_t> token(n), position(n), zero(n, 0);
  for (int64_t r = 0; r < n; r++) {
    token[r] = static_cast<int32_t>(r * 7 % c_.n_vocab);
    position[r] = static_cast<int32_t>(ctx_ - n + r);
  }
  backend_.copy_in(a_.token, token.data(), n * 4);
  backend_.copy_in(a_.position, position.data(), n * 4);
  backend_.copy_in(a_.slot, zero.data(), n * 4);
  backend_.copy_in(a_.first_row, zero.data(), n * 4);
  backend_.copy_in(a_.logits_rows, token.data(), 0);
}

// Rows of all pages and rings of the two layers looked at, so that no op meets only zeros.
void OpsRig::fill_sequence() {
  Ops& ops = backend_.ops();
  for (const int layer : {csa_, hca_}) {
    const LayerKvLayout& l = layout_.layers[layer];
    ops.encode_rows(layout_.row, std::min(layout_.window_capacity, max_rows_), a_.q,
                    kv_.frontiers + l.window);
    if (l.kind == LayerKind::kSliding) continue;
    const int rows = kPageTokens / static_cast<int>(l.kind);
    for (int64_t page = 0; page < kv_.max_pages; page++) {
      std::byte* base = kv_.pages + page * layout_.page_bytes;
      ops.encode_rows(layout_.row, std::min(rows, max_rows_), a_.q, base + l.page_rows);
      if (l.kind == LayerKind::kCsa)
        ops.encode_rows(layout_.index_row, std::min(rows, max_rows_), a_.q,
                        base + l.page_index_rows);
    }
  }
  ops.encode_rows(layout_.row, max_rows_, a_.kv, a_.kv_rows);
  ops.sync();
}

void OpsRig::fill(DType format) {
  format_ = format;
  const std::vector<float> values = normal_values(kPatternValues, 1.0f / 64, 2);
  const std::vector<float> importance(kPatternValues, 1.0f);
  std::vector<std::byte> pattern(row_bytes(format, kPatternValues));
  quant::encode_row(format, values.data(), kPatternValues, importance.data(), pattern.data());
  const auto n = static_cast<int64_t>(pattern.size());
  for (int64_t at = 0; at < arena_bytes_; at += n)
    std::memcpy(arena_ + at, pattern.data(), std::min(n, arena_bytes_ - at));
}

Weight OpsRig::adopted(const Weight& w) const {
  const auto on_device = backend_.adopt(w, Placement::kDevice);
  NW_CHECK(on_device.ok(), "weights to time: {}", on_device.status().message());
  return *on_device;
}

Weight OpsRig::matrix(int64_t n_in, int64_t n_out, int64_t turn) const {
  Weight w{arena_, format_, n_in, n_out};
  const int64_t n_copies = std::max<int64_t>(arena_bytes_ / w.matrix_bytes(), 1);
  NW_CHECK(w.matrix_bytes() <= arena_bytes_, "matrix of {} bytes", w.matrix_bytes());
  w.data += turn % n_copies * w.matrix_bytes();
  return adopted(w);
}

Cell OpsRig::dense(std::string op, int n) {
  const int64_t n_in = int64_t{c_.o_groups} * c_.o_lora, n_out = c_.d_model;
  Cell cell;
  cell.op = std::move(op);
  cell.format = dtype_name(format_);
  cell.n = n;
  const int64_t matrix_bytes = row_bytes(format_, n_in * n_out);
  cell.bytes = matrix_bytes + n * (n_in + n_out) * 4;
  for (int64_t i = 0; i < arena_bytes_ / matrix_bytes; i++) matrix(n_in, n_out, i);  // adopts all
  cell.macs = n * n_in * n_out;
  cell.run = [this, n, n_in, n_out](int64_t turn) {
    backend_.ops().matmul(matrix(n_in, n_out, turn), n, a_.o_low, a_.out);
  };
  cell.out = a_.out;
  cell.n_out = n * n_out;
  return cell;
}

// As many of the vocabulary's rows as the arena has.
Cell OpsRig::head() {
  const int64_t n_in = c_.d_model, n_floats = int64_t{max_rows_} * c_.n_heads * c_.head_dim;
  const int64_t n_out =
      std::min({int64_t{c_.n_vocab}, arena_bytes_ / row_bytes(format_, n_in), n_floats});
  const Weight w = matrix(n_in, n_out, 0);
  Cell cell;
  cell.op = "head";
  cell.format = dtype_name(format_);
  cell.n = 1;
  cell.bytes = w.matrix_bytes() + (n_in + n_out) * 4;
  cell.macs = n_in * n_out;
  cell.run = [this, w](int64_t) { backend_.ops().matmul(w, 1, a_.x, a_.o); };
  cell.out = a_.o;
  cell.n_out = n_out;
  return cell;
}

ExpertParams OpsRig::stacks(int64_t n_experts) const {
  ExpertParams p;
  p.w1 = {arena_, format_, c_.d_model, c_.d_expert, n_experts};
  p.w3 = p.w1;
  p.w3.data += p.w1.n_bytes();
  p.w2 = {p.w3.data + p.w3.n_bytes(), format_, c_.d_expert, c_.d_model, n_experts};
  p.limit = c_.swiglu_limit[0];
  return {adopted(p.w1), adopted(p.w3), adopted(p.w2), p.limit};
}

// Row r takes the k experts from (first + r) * k on, round and round, ascending as routing has it.
void OpsRig::choose_experts(int n, int n_experts, int64_t first) {
  const int k = c_.n_experts_used;
  std::vector<int32_t> ids(int64_t{n} * k);
  for (int r = 0; r < n; r++) {
    for (int i = 0; i < k; i++)
      ids[r * k + i] = static_cast<int32_t>(((first + r) * k + i) % n_experts);
    std::sort(ids.begin() + r * k, ids.begin() + (r + 1) * k);
  }
  backend_.copy_in(choice_, ids.data(), static_cast<int64_t>(ids.size()) * 4);
}

int OpsRig::n_experts_held() const {
  const int64_t expert = row_bytes(format_, int64_t{3} * c_.d_model * c_.d_expert);
  return static_cast<int>(std::min<int64_t>(arena_bytes_ / expert, c_.n_experts));
}

Cell OpsRig::experts() {
  const int n_experts = n_experts_held();
  Cell cell = grouped(1, n_experts);
  cell.op = "experts";
  cell.run = [this, n_experts](int64_t turn) {
    choose_experts(1, n_experts, turn);
    backend_.ops().routed_experts(stacks(n_experts), 1, c_.n_experts_used, a_.x, choice_, a_.router,
                                  a_.expert_hidden, a_.out);
  };
  return cell;
}

Cell OpsRig::grouped(int n, int n_experts) {
  const int k = c_.n_experts_used;
  n_experts = std::min(n_experts, n_experts_held());
  choose_experts(n, n_experts, 0);
  Cell cell;
  cell.op = "grouped";
  cell.format = dtype_name(format_);
  cell.n = n;
  const int64_t touched = std::min<int64_t>(int64_t{n} * k, n_experts);
  cell.bytes = touched * 3 * row_bytes(format_, int64_t{c_.d_model} * c_.d_expert) +
               int64_t{n} * 2 * c_.d_model * 4;
  cell.macs = int64_t{n} * k * 3 * c_.d_model * c_.d_expert;
  cell.run = [this, n, k, n_experts](int64_t) {
    backend_.ops().routed_experts(stacks(n_experts), n, k, a_.x, choice_, a_.router,
                                  a_.expert_hidden, a_.out);
  };
  cell.out = a_.out;
  cell.n_out = int64_t{n} * c_.d_model;
  return cell;
}

bool OpsRig::sane(const Cell& cell) const {
  if (!cell.out) return true;
  std::vector<float> v(std::min<int64_t>(cell.n_out, 1 << 16));
  backend_.copy_out(v.data(), cell.out, static_cast<int64_t>(v.size()) * 4);
  bool some = false;
  for (const float x : v) {
    if (!std::isfinite(x)) return false;
    some = some || x != 0;
  }
  return some;
}

}  // namespace narwhal::bench
