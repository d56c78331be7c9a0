// SPDX-License-Identifier: Apache-2.0
// The reference layout of cached rows: a page is page_size rows of row_dim elements, row after row, nothing
// else.
#pragma once

#include "backend/backend.h"

namespace indexshare {

size_t cached_row_bytes(RowFormat format, int64_t row_dim);

/// Physical slot of a sequence's position: page_table[position / page_size] * page_size + position %
/// page_size.
inline int64_t slot_of(const SequenceRows& sequence, int64_t page_size, int64_t position) {
  return sequence.page_table[position / page_size] * page_size + position % page_size;
}

/// @param row [row_dim] out
void load_cached_row(const CachePages& cache, int64_t slot, float* row);

/// @param row [row_dim], rounded to the cache's format
void store_cached_row(const CachePages& cache, int64_t slot, const float* row);

}  // namespace indexshare
