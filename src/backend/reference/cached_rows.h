// SPDX-License-Identifier: Apache-2.0
// The reference layout of cached rows: a page is page_size rows, one after the other. A row is its elements;
// in int8 the codes, then the f32 scales, then the bf16 tail.
#pragma once

#include "backend/backend.h"

namespace indexshare {

struct RowLayout {
  RowFormat format;
  int64_t dim, tail;    // elements, of which the last `tail` stay bf16 in int8 rows
  int64_t scale_group;  // elements a scale

  int64_t num_codes() const { return dim - tail; }
  int64_t num_scales() const { return (num_codes() + scale_group - 1) / scale_group; }
  size_t row_bytes() const;
};

RowLayout latent_layout(const CachePages& cache);
RowLayout index_key_layout(const CachePages& cache);

/// Physical slot of a sequence's position: page_table[position / page_size] * page_size + position %
/// page_size.
inline int64_t slot_of(const SequenceRows& sequence, int64_t page_size, int64_t position) {
  return sequence.page_table[position / page_size] * page_size + position % page_size;
}

/// @param row [dim] out
void load_cached_row(const CachePages& cache, const RowLayout& layout, int64_t slot, float* row);

/// @param row [dim], rounded to the cache's format
void store_cached_row(const CachePages& cache, const RowLayout& layout, int64_t slot, const float* row);

/// The codes and the scale of an int8 index key.
const int8_t* index_key_codes(const CachePages& cache, int64_t slot);
float index_key_scale(const CachePages& cache, int64_t slot);

}  // namespace indexshare
