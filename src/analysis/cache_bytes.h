// SPDX-License-Identifier: Apache-2.0
// What a config's caches take, asked of the backend that lays them out.
#pragma once

#include "backend/backend.h"
#include "indexshare/analysis.h"
#include "model/model_config.h"

namespace indexshare {

/// As the cpu backend lays its pages out.
CacheBytes cache_bytes_per_token(const ModelConfig& config, RowFormat latents, RowFormat index_keys);

}  // namespace indexshare
