// SPDX-License-Identifier: Apache-2.0
// Sequence: one timeline of tokens and its pages in the cache. tokens.size() == cache.length at rest.
#pragma once

#include <cstdint>
#include <vector>

#include "cache/paged_cache.h"
#include "indexshare/engine.h"

namespace indexshare {

/// How far the MTP layer has read. Its row t needs the token at t + 1, so it ends one behind the target.
struct MtpHistory {
  int64_t num_rows = 0;       // its rows in the cache stand at positions [0, num_rows)
  std::vector<float> hidden;  // [hidden] the target's last final hidden state, for its next row; may be lost
};

struct Sequence {
  SequenceId id = 0;
  std::vector<int32_t> tokens;  // those in the cache
  CachedSequence cache;
  MtpHistory mtp;
  // [num_layers] layers whose index keys were not written at every position, as another plan than the loaded
  // one was in force; empty: none. A plan in which such a layer is full would select among stale rows.
  std::vector<bool> lacks_keys;
  RequestId request = 0;  // the request that runs on it, 0 when idle
};

}  // namespace indexshare
