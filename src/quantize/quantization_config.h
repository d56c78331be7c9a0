// SPDX-License-Identifier: Apache-2.0
// The quantization_config of a pack-quantized checkpoint, as compressed-tensors writes and reads it.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "model/weight_formats.h"

namespace indexshare {

/// @param kept modules whose weights stay as they are, by name
Json quantization_config(WeightFormat format, const std::vector<std::string>& kept);

}  // namespace indexshare
