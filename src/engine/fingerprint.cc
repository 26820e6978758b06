#include "engine/fingerprint.h"

#include <xxhash.h>

#include <algorithm>

namespace narwhal {
namespace {

constexpr uint64_t kSampleBytes = 256;  // from the start, the middle and the end of a tensor

}  // namespace

uint64_t state_fingerprint(const gguf::File& file, const KvLayout& layout) {
  XXH3_state_t* state = XXH3_createState();
  XXH3_64bits_reset(state);
  const auto number = [&](uint64_t v) { XXH3_64bits_update(state, &v, sizeof v); };
  number(kNumericsVersion);
  for (const RowFormat& f : {layout.row, layout.index_row}) {
    number(static_cast<uint64_t>(f.kind));
    number(static_cast<uint64_t>(f.dim));
    number(static_cast<uint64_t>(f.nope));
  }
  number(file.file_bytes());
  for (const gguf::Tensor& t : file.tensors()) {
    XXH3_64bits_update(state, t.name.data(), t.name.size());
    number(static_cast<uint64_t>(t.type));
    for (const int64_t d : t.dims) number(static_cast<uint64_t>(d));
    const uint64_t n = std::min(kSampleBytes, t.n_bytes);
    for (const uint64_t at : {uint64_t{0}, (t.n_bytes - n) / 2, t.n_bytes - n})
      XXH3_64bits_update(state, t.data + at, n);
  }
  const uint64_t hash = XXH3_64bits_digest(state);
  XXH3_freeState(state);
  return hash;
}

}  // namespace narwhal
