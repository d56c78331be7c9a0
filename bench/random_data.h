// SPDX-License-Identifier: Apache-2.0
// Uniform random values in [-1, 1) and caches full of them, the same in every run.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/backend.h"

namespace indexshare {

float random_value(uint64_t& state);
std::vector<float> random_floats(int64_t count, uint64_t seed = 1);

/// One sequence's cached rows of one layer, pages in an order that a prefetcher cannot guess.
class RandomCache {
 public:
  enum class Kind { latents, index_keys };
  static constexpr int64_t kPageSize = 64;

  /// @param rope_dim of latents
  RandomCache(Backend& backend, Kind kind, RowFormat format, int64_t row_dim, int64_t rope_dim,
              int64_t length, uint64_t seed = 7);

  CachePages pages;
  std::vector<int32_t> table;  // physical page of each logical page
  double bytes_per_row = 0;

 private:
  std::unique_ptr<Buffer> buffer_;
};

}  // namespace indexshare
