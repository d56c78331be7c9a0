// SPDX-License-Identifier: Apache-2.0
// Latents inside a page: row after row. A row is its elements in the cache's format; in int8 the codes, then
// one f32 scale for every 128 of them, then the tail in bf16 (512 + 16 + 128 bytes at GLM-5.2's shape).
#pragma once

#include "backend/backend.h"
#include "backend/quantise.h"

namespace indexshare {

struct LatentLayout {
  explicit LatentLayout(const CachePages& cache)
      : pages(static_cast<std::byte*>(cache.pages)),
        page_size(cache.page_size),
        num_codes(cache.row_dim - cache.bf16_tail) {
    const int64_t num_scales = (num_codes + kLatentScaleGroup - 1) / kLatentScaleGroup;
    scales_at = static_cast<size_t>((num_codes + 3) / 4 * 4);
    tail_at = scales_at + static_cast<size_t>(num_scales) * 4;
    row_bytes = cache.format == RowFormat::f32    ? static_cast<size_t>(cache.row_dim) * 4
                : cache.format == RowFormat::bf16 ? static_cast<size_t>(cache.row_dim) * 2
                                                  : tail_at + static_cast<size_t>(cache.bf16_tail) * 2;
    page_bytes = (row_bytes * static_cast<size_t>(cache.page_size) + 63) / 64 * 64;
    no_gaps = page_bytes == row_bytes * static_cast<size_t>(cache.page_size);
  }

  std::byte* row(int64_t page, int64_t offset) const {
    return pages + static_cast<size_t>(page) * page_bytes + static_cast<size_t>(offset) * row_bytes;
  }

  /// Slots count the rows of all pages.
  std::byte* slot(int64_t index) const {
    if (no_gaps) return pages + static_cast<size_t>(index) * row_bytes;
    return row(index / page_size, index % page_size);
  }

  std::byte* pages;
  int64_t page_size;
  int64_t num_codes;          // int8 elements of a row
  size_t scales_at, tail_at;  // bytes from the row's begin, int8 only
  size_t row_bytes, page_bytes;
  bool no_gaps;  // between the rows of one page and the next
};

}  // namespace indexshare
