// Which type each tensor of the output gets: a preset by role, then the user's patterns, then what
// the length of a row allows (spec: GGUF section 3).
//
//   preset   experts gate, up / down   attention, shared,   embedding   compressor,   hc fn, router
//                                      output                           indexer
//   f32      f32                       f32                  f32         f32           f32
//   bf16     bf16                      bf16                 bf16        bf16          bf16
//   f16      f16                       f16                  f16         f16           f16
//   q8_0     q8_0                      q8_0                 q8_0        q8_0          f16
//   q4       q4_k                      q8_0                 f16         f16           f16
//   q2       iq2_xxs / q2_k            q8_0                 f16         f16           f16
//
// Vectors are always f32 and hash tables i32. q4 and q2 are the layouts of the published files.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/weights.h"
#include "narwhal/status.h"
#include "tensor/dtype.h"

namespace narwhal {

enum class Preset { kF32, kBF16, kF16, kQ8_0, kQ4, kQ2 };

std::optional<Preset> preset_by_name(std::string_view name);
// What general.file_type records; informative only.
uint32_t preset_file_type(Preset preset);
DType preset_type(Preset preset, TensorRole role);

// `wanted`, or when rows of n_in values are not whole blocks of it Q8_0, or F16.
DType type_that_fits(DType wanted, int64_t n_in);

// Whether the whole of `text` matches: * stands for any characters, ? for one.
bool glob_match(std::string_view pattern, std::string_view text);

struct TypeChoice {
  DType wanted, type;  // they differ where a row does not fit
};

using TensorTypes = std::vector<std::pair<std::string, DType>>;

// One choice per entry of `table`. A pattern sets the type of the tensors whose name it matches and
// whose role may have that type; of several the last counts. kUsage for a pattern that sets
// nothing, a type no weight is stored in, and gate and up experts of a layer with different types.
Result<std::vector<TypeChoice>> choose_types(const std::vector<TensorSpec>& table, Preset preset,
                                             const TensorTypes& patterns);

}  // namespace narwhal
