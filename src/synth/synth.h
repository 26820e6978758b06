// synth: a GGUF of any shape with seeded, numerically sane random weights. It has the metadata, the
// tensor names, the shapes and the types of a real model file, so that speed can be measured at the
// real shape without real weights, and small models can be made for tests.
//
//   SynthOptions options;
//   options.shape = "tiny";
//   options.out = "tiny.gguf";
//   NW_ASSIGN(SynthReport report, synth(options));
//
// Every linear map is about N(0, 1/n_in) whatever its type, norms are one, the embedding has unit
// variance: activations keep their magnitude through any depth. The bytes depend on shape, quant,
// flavor and seed alone, never on the number of threads; a tensor's bytes depend on its name, type
// and shape, so two files that differ elsewhere share it.
//
// The command line maps one flag to each field:
//   --out FILE              the file to write; it appears complete or not at all
//   --shape NAME            flash, minnow or tiny; single dimensions change by the flags of
//                           synth_dimensions() and --ratios R0,R1,...
//   --quant NAME            q2: experts IQ2_XXS and Q2_K; q4: Q4_K; mixed: q2, the last six layers
//                           q4; q8: Q8_0; mxfp4: MXFP4; all with Q8_0 attention, shared expert and
//                           output, F16 elsewhere; f16: F16 throughout
//   --flavor NAME           plain: norms 1, biases, sinks and position biases 0; rich: these drawn
//                           too, so that a mistake in any of them shows in the logits
//   --tokenizer-json FILE   vocabulary of a Hugging Face tokenizer; default a byte-level one
//   --mtp                   the separate file of the multi-token-prediction block instead
//   --alias-experts N       only N layers store routed experts, the others share their bytes
//   --sparse none|experts|all   leave the routed experts or all tensor data as a hole of zeros
//   --seed N, --threads N, --alignment N
//   --memory-floor-mib N    while less memory than this is available, writers pause for up to 3 s
//   --ignore-space          write even if disk or memory seem too small
//   --dry-run               write nothing, report only; --list prints SynthReport::tensors
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "model/config.h"
#include "narwhal/status.h"
#include "tensor/dtype.h"

namespace narwhal {

struct SynthOptions {
  std::string out;  // may be empty with dry_run
  std::string shape = "flash";
  std::map<std::string, int> dimensions;  // "layers" -> 4: names of synth_dimensions()
  std::vector<int> ratios;                // per layer 0, 4 or 128; empty: 0, 0, 4, 128, 4, 128 ...
  std::string quant = "q2";
  std::string flavor = "plain";
  std::string tokenizer_json;
  bool mtp = false;
  int alias_experts = 0;  // 0: every layer its own
  std::string sparse = "none";
  uint64_t seed = 1;
  int threads = 0;  // 0: one per core
  uint64_t alignment = 32;
  uint64_t memory_floor_mib = 3072;
  bool ignore_space = false;
  bool dry_run = false;
};

// One dimension that a flag may change: --layers 4.
struct SynthDimension {
  const char* name;
  int Config::*field;
  const char* help;
};
std::span<const SynthDimension> synth_dimensions();

struct SynthTensor {
  std::string name;
  DType type = DType::kF32;
  std::vector<int64_t> dims;
  uint64_t offset = 0;  // in the file
  uint64_t n_bytes = 0;
  bool shared = false;  // its bytes are those of an earlier tensor
};

struct SynthReport {
  Config config;
  std::vector<SynthTensor> tensors;  // in file order
  int64_t n_elements = 0;            // over all tensors, shared ones included
  uint64_t file_bytes = 0;
  uint64_t data_bytes = 0;     // tensor data in the file with its padding; shared bytes once
  uint64_t written_bytes = 0;  // tensor data drawn and written; the rest is holes
  double seconds = 0;
  int threads = 0;
};

// kUsage for an unknown name or a shape that does not fit together, kBadInput for a faulty
// tokenizer.json, kFailed when the file cannot be written or the disk is too small, kNoMemory when
// the target is a file system in memory that it would fill. Holds about 1 MiB per thread and the
// vocabulary.
Result<SynthReport> synth(const SynthOptions& options);

// The shape that synth(options) would write.
Result<Config> synth_config(const SynthOptions& options);

}  // namespace narwhal
