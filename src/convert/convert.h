// Hugging Face checkpoint -> GGUF (spec: GGUF sections 3 to 5).
//
//   NW_ASSIGN(const ConvertReport report, convert({.checkpoint = "DeepSeek-V4-Flash",
//                                                  .output = "flash-q2.gguf",
//                                                  .type = "q2"}));
//
// The checkpoint folder holds config.json, tokenizer.json and the weights, whole or in shards.
// Names, shapes and forms are checked before the first byte is written, values as they pass; the
// output appears under its name only when it is complete. The same input gives the same bytes
// whatever the number of threads. Memory stays small: sources are mapped and pass through a row at
// a time (convert/encode.h).
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "narwhal/status.h"
#include "tensor/dtype.h"

namespace narwhal {

struct ConvertOptions {
  std::string checkpoint;     // folder
  std::string output;         // path of the GGUF
  std::string type = "q8_0";  // f32, bf16, f16, q8_0, q4 or q2 (convert/presets.h)
  // PATTERN = TYPE for GGUF names, as "blk.*.ffn_*_exps.weight" = mxfp4; the last match counts.
  // MXFP4 needs experts that the checkpoint stores in FP4: they are repacked without loss.
  std::vector<std::pair<std::string, DType>> tensor_types = {};
  std::string imatrix = "";         // importance matrix (convert/imatrix.h); empty = none
  std::string tokenizer = "";       // a tokenizer.json; empty = the checkpoint's, if it has one
  std::string name = "";            // general.name; empty = the folder's name
  bool mtp = false;                 // also the MTP block, under the names "mtp.0.*"
  std::string prompt_profile = "";  // "preview" or "0731"; empty = what config.json lets know
  int n_threads = 0;                // 0 = one per physical core
};

// A tensor stored in another type than was asked for.
struct ConvertFallback {
  std::string tensor;
  DType wanted, got;
  std::string reason;
};

struct ConvertReport {
  std::string name, prompt_profile;
  int64_t n_tensors = 0;
  uint64_t n_bytes = 0;                               // of the file
  std::vector<std::pair<DType, int64_t>> types = {};  // tensors of each type, most frequent first
  std::vector<ConvertFallback> fallbacks = {};        // in file order
  std::vector<std::string> warnings = {};             // one line each
};

// kUsage for a bad option, kBadInput for a fault of the checkpoint, the tokenizer or the importance
// matrix, kFailed when the output cannot be written; nothing is left behind then.
Result<ConvertReport> convert(const ConvertOptions& options);

}  // namespace narwhal
