// SPDX-License-Identifier: Apache-2.0
// generation_config.json: how the model's makers sample from it, and the tokens that end a text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "indexshare/options.h"

namespace indexshare {

struct GenerationConfig {
  SamplingOptions sampling;            // defaults where the file says nothing
  std::vector<int32_t> eos_token_ids;  // beside those of config.json
  std::vector<std::string> notes;      // one line each
};

/// Defaults where the directory has no such file. @throws Error{unsupported} naming the field.
GenerationConfig load_generation_config(const std::filesystem::path& directory, int64_t vocab_size);

}  // namespace indexshare
