// SPDX-License-Identifier: Apache-2.0
#include "backend/reference/cached_rows.h"

#include <cstring>

#include "base/dtype.h"

namespace indexshare {

size_t cached_row_bytes(RowFormat format, int64_t row_dim) {
  return row_format_bytes(format) * static_cast<size_t>(row_dim);
}

void load_cached_row(const CachePages& cache, int64_t slot, float* row) {
  const size_t bytes = cached_row_bytes(cache.format, cache.row_dim);
  const std::byte* stored = static_cast<const std::byte*>(cache.pages) + static_cast<size_t>(slot) * bytes;
  if (cache.format == RowFormat::f32) {
    std::memcpy(row, stored, bytes);
    return;
  }
  for (int64_t i = 0; i < cache.row_dim; ++i) row[i] = load_as_f32(DType::bf16, stored, i);
}

void store_cached_row(const CachePages& cache, int64_t slot, const float* row) {
  const size_t bytes = cached_row_bytes(cache.format, cache.row_dim);
  std::byte* stored = static_cast<std::byte*>(cache.pages) + static_cast<size_t>(slot) * bytes;
  if (cache.format == RowFormat::f32) {
    std::memcpy(stored, row, bytes);
    return;
  }
  for (int64_t i = 0; i < cache.row_dim; ++i) reinterpret_cast<uint16_t*>(stored)[i] = f32_to_bf16(row[i]);
}

}  // namespace indexshare
