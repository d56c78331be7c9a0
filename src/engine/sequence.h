// SPDX-License-Identifier: Apache-2.0
// Sequence: one timeline of tokens and its pages in the cache. tokens.size() == cache.length at rest.
#pragma once

#include <cstdint>
#include <vector>

#include "cache/paged_cache.h"
#include "indexshare/engine.h"

namespace indexshare {

struct Sequence {
  SequenceId id = 0;
  std::vector<int32_t> tokens;  // those in the cache
  CachedSequence cache;
  RequestId request = 0;  // the request that runs on it, 0 when idle
};

}  // namespace indexshare
