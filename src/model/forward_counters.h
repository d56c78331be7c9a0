// SPDX-License-Identifier: Apache-2.0
// ForwardCounters: the operations the forward pass asked of the backend, counted where it asks (a
// multiply-add is two FLOPs). Held against the closed form of analysis/flops.h by a test.
#pragma once

#include <cstdint>

namespace indexshare {

struct ForwardCounters {
  uint64_t tokens = 0, forward_passes = 0, indexer_passes = 0;
  uint64_t projections = 0, indexer_projections = 0, index_scores = 0, attention = 0, mlp = 0,
           head = 0;  // FLOPs
};

}  // namespace indexshare
