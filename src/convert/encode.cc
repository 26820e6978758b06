#include "convert/encode.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>

#include "base/check.h"
#include "quant/quant.h"

namespace narwhal {
namespace {

constexpr int64_t kChunkBytes = 1 << 20;

// The fault of the lowest index, so that the message does not depend on timing.
class FirstFault {
 public:
  bool past(int64_t index) const { return index > index_.load(std::memory_order_relaxed); }
  void set(int64_t index, Status status) {
    const std::lock_guard lock(mutex_);
    if (index >= index_) return;
    index_ = index;
    status_ = std::move(status);
  }
  Status take() { return std::move(status_); }

 private:
  std::mutex mutex_;
  std::atomic<int64_t> index_ = std::numeric_limits<int64_t>::max();
  Status status_;
};

// F16 and the F16 scales of the blocks end at 65504; 65520 would round to infinity.
Status check_range(const SourceMatrix& m, int64_t r, DType type, const float* row) {
  if (type == DType::kF32 || type == DType::kBF16) return ok_status();
  for (int64_t i = 0; i < m.n_in; i++)
    if (std::fabs(row[i]) >= 65520.0f)
      return bad_input(
          fmt::format("{} row {}: value {} is {}, too large for {}; store it as f32 or "
                      "bf16",
                      m.name, r, i, row[i], dtype_name(type)));
  return ok_status();
}

Status encode_one(const SourceMatrix& m, int64_t r, DType type, const float* importance,
                  std::vector<float>& row, void* out) {
  if (type == DType::kMXFP4) return m.repack_row(r, out);
  NW_TRY(m.read_row(r, row.data()));
  NW_TRY(check_range(m, r, type, row.data()));
  quant::encode_row(type, row.data(), m.n_in, importance, out);
  return ok_status();
}

}  // namespace

Encoder::Encoder(ThreadPool& pool, gguf::Writer& writer, int64_t n_total_values)
    : pool_(pool), writer_(writer), progress_("convert", n_total_values) {}

void Encoder::count(int64_t n_values, int thread) {
  const int64_t done = n_done_.fetch_add(n_values) + n_values;
  if (thread == 0) progress_.update(done);  // the bar belongs to the calling thread
}

// One thread adds up a matrix, in row order.
std::vector<std::vector<float>> Encoder::column_energies(const EncodeJob& job, Status& status) {
  const auto n_matrices = static_cast<int64_t>(job.matrices.size());
  std::vector<std::vector<float>> energies(job.matrices.size());
  FirstFault fault;
  pool_.run(n_matrices, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t e = begin; e < end; e++) {
      if (fault.past(e) || (!job.importance.empty() && !job.importance[e].empty())) continue;
      const SourceMatrix& m = job.matrices[e];
      std::vector<float> row(m.n_in);
      energies[e].assign(m.n_in, 0.0f);
      for (int64_t r = 0; r < m.n_out; r++) {
        if (Status s = m.read_row(r, row.data()); !s.ok()) {
          fault.set(e, std::move(s));
          break;
        }
        for (int64_t c = 0; c < m.n_in; c++) energies[e][c] += row[c] * row[c];
      }
    }
  });
  status = fault.take();
  return energies;
}

Status Encoder::encode(const EncodeJob& job) {
  NW_CHECK(!job.matrices.empty(), "tensor {} without a source", job.tensor);
  NW_CHECK(job.importance.empty() || job.importance.size() == job.matrices.size(),
           "{} importance rows for {} matrices", job.importance.size(), job.matrices.size());
  const int64_t n_in = job.matrices.front().n_in, n_out = job.matrices.front().n_out;
  const int64_t n_row_bytes = row_bytes(job.type, n_in);

  std::vector<std::vector<float>> energies(job.matrices.size());
  if (quant::needs_importance(job.type)) {
    Status status;
    energies = column_energies(job, status);
    NW_TRY(status);
  }
  const auto importance_of = [&](int64_t e) -> const float* {
    if (!job.importance.empty() && !job.importance[e].empty()) return job.importance[e].data();
    return energies[e].empty() ? nullptr : energies[e].data();
  };

  // Small enough to share among threads, small enough to hold.
  const int64_t n_rows = n_out * static_cast<int64_t>(job.matrices.size());
  const int64_t grain = std::clamp<int64_t>(n_rows / (8 * pool_.size()), 1,
                                            std::max<int64_t>(1, kChunkBytes / n_row_bytes));
  FirstFault fault;
  pool_.run(n_rows, grain, [&](int64_t begin, int64_t end, int thread) {
    std::vector<float> row(n_in);
    std::vector<std::byte> chunk(std::min(grain, end - begin) * n_row_bytes);
    // A pool of one thread hands out the whole range at once.
    for (int64_t at = begin; at < end && !fault.past(at); at += grain) {
      const int64_t n = std::min(grain, end - at);
      for (int64_t i = 0; i < n; i++) {
        const int64_t e = (at + i) / n_out, r = (at + i) % n_out;
        Status s = encode_one(job.matrices[e], r, job.type, importance_of(e), row,
                              chunk.data() + i * n_row_bytes);
        if (!s.ok()) return fault.set(at + i, std::move(s));
      }
      Status s = writer_.write(job.tensor, static_cast<uint64_t>(at * n_row_bytes), chunk.data(),
                               static_cast<size_t>(n * n_row_bytes));
      if (!s.ok()) return fault.set(at, std::move(s));
      count(n * n_in, thread);
    }
  });
  return fault.take();
}

}  // namespace narwhal
