// config.json of a Hugging Face checkpoint -> Config (spec: GGUF section 5).
//
// Both spellings are read: the official one (compress_ratios, rope_theta, rope_scaling,
// num_hash_layers) and transformers' (layer_types with compress_rates, rope_parameters,
// mlp_layer_types). Where a file holds both, the official one counts. Members that do not shape the
// model are passed over.
//
//   NW_ASSIGN(const std::string text, read_file("DeepSeek-V4-Flash/config.json"));
//   NW_ASSIGN(const Config config, config_from_hf(text));
#pragma once

#include <string_view>

#include "model/config.h"
#include "narwhal/status.h"

namespace narwhal {

// The name stays empty; prompt_profile is "0731" when any member's name begins with dspark_, as
// that release's do, else "preview". kBadInput naming the member that is missing, of the wrong kind
// or asks for what this engine does not have; the result has passed check_config.
Result<Config> config_from_hf(std::string_view json);

}  // namespace narwhal
