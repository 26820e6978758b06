// Encodes one tensor of the output from its rows in the checkpoint, on all threads.
//
// Memory is bounded: each thread holds one row in f32 and one chunk of encoded rows; column
// energies take one row per expert. Rows are independent, so the bytes do not depend on the thread
// count.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "base/progress.h"
#include "base/threads.h"
#include "convert/source.h"
#include "gguf/writer.h"
#include "narwhal/status.h"
#include "tensor/dtype.h"

namespace narwhal {

struct EncodeJob {
  int tensor = 0;  // index in the writer
  DType type = DType::kF32;
  std::vector<SourceMatrix> matrices;  // of one shape, in file order
  // Per matrix the importance of its columns, or empty (all or single spans): then a type that
  // needs one gets the matrix's column energy, sum over rows of W[r][c]^2.
  std::vector<std::span<const float>> importance;
};

class Encoder {
 public:
  // Both must outlive this. `n_total_values` is what the progress bar counts to.
  Encoder(ThreadPool& pool, gguf::Writer& writer, int64_t n_total_values);

  // kBadInput for a source fault or a value too large for the type, naming the first such row.
  // MXFP4 takes FP4 sources only and repacks them.
  Status encode(const EncodeJob& job);

 private:
  std::vector<std::vector<float>> column_energies(const EncodeJob& job, Status& status);
  void count(int64_t n_values, int thread);

  ThreadPool& pool_;
  gguf::Writer& writer_;
  Progress progress_;
  std::atomic<int64_t> n_done_{0};
};

}  // namespace narwhal
