// Writes one safetensors file (layout: safetensors/reader.h).
#pragma once

#include <span>
#include <string>

#include "narwhal/status.h"
#include "safetensors/reader.h"

namespace narwhal::safetensors {

// Tensors lie in the order given, without gaps, from a multiple of 8 on. PATH appears only when all
// is written. n_bytes must equal shape x type. kBadInput for a name used twice, kFailed when the
// file cannot be written.
//
//   const float ones[6] = {1, 1, 1, 1, 1, 1};
//   const safetensors::Tensor t{"w", SourceType::kF32, {2, 3},
//   std::as_bytes(std::span(ones)).data(), 24}; NW_TRY(safetensors::write_file("tiny.safetensors",
//   {&t, 1}));
Status write_file(const std::string& path, std::span<const Tensor> tensors);

}  // namespace narwhal::safetensors
