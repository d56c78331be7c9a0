// SPDX-License-Identifier: Apache-2.0
#include "backend/reference/cached_rows.h"

#include <algorithm>
#include <cstring>

#include "backend/quantise.h"
#include "base/dtype.h"

namespace indexshare {

namespace {

std::byte* row_at(const CachePages& cache, const RowLayout& layout, int64_t slot) {
  return static_cast<std::byte*>(cache.pages) + static_cast<size_t>(slot) * layout.row_bytes();
}

float scale_of(const RowLayout& layout, const std::byte* stored, int64_t group) {
  float scale;
  std::memcpy(&scale, stored + layout.num_codes() + group * 4, sizeof scale);
  return scale;
}

void load_int8(const RowLayout& layout, const std::byte* stored, float* row) {
  const auto* codes = reinterpret_cast<const int8_t*>(stored);
  for (int64_t i = 0; i < layout.num_codes(); ++i)
    row[i] = static_cast<float>(codes[i]) * scale_of(layout, stored, i / layout.scale_group);
  const std::byte* tail = stored + layout.num_codes() + layout.num_scales() * 4;
  for (int64_t i = 0; i < layout.tail; ++i) row[layout.num_codes() + i] = load_as_f32(DType::bf16, tail, i);
}

void store_int8(const RowLayout& layout, std::byte* stored, const float* row) {
  auto* codes = reinterpret_cast<int8_t*>(stored);
  for (int64_t group = 0; group < layout.num_scales(); ++group) {
    const int64_t begin = group * layout.scale_group;
    const int64_t count = std::min(layout.scale_group, layout.num_codes() - begin);
    const float scale = quantise_int8(row + begin, count, codes + begin);
    std::memcpy(stored + layout.num_codes() + group * 4, &scale, sizeof scale);
  }
  std::byte* tail = stored + layout.num_codes() + layout.num_scales() * 4;
  for (int64_t i = 0; i < layout.tail; ++i) {
    const uint16_t bits = f32_to_bf16(row[layout.num_codes() + i]);
    std::memcpy(tail + i * 2, &bits, sizeof bits);
  }
}

}  // namespace

size_t RowLayout::row_bytes() const {
  if (format == RowFormat::f32) return static_cast<size_t>(dim * 4);
  if (format == RowFormat::bf16) return static_cast<size_t>(dim * 2);
  return static_cast<size_t>(num_codes() + num_scales() * 4 + tail * 2);
}

RowLayout latent_layout(const CachePages& cache) {
  return {cache.format, cache.row_dim, cache.bf16_tail, kLatentScaleGroup};
}

RowLayout index_key_layout(const CachePages& cache) {
  return {cache.format, cache.row_dim, 0, cache.row_dim};
}

void load_cached_row(const CachePages& cache, const RowLayout& layout, int64_t slot, float* row) {
  const std::byte* stored = row_at(cache, layout, slot);
  if (layout.format == RowFormat::int8) return load_int8(layout, stored, row);
  const DType dtype = layout.format == RowFormat::f32 ? DType::f32 : DType::bf16;
  for (int64_t i = 0; i < layout.dim; ++i) row[i] = load_as_f32(dtype, stored, i);
}

void store_cached_row(const CachePages& cache, const RowLayout& layout, int64_t slot, const float* row) {
  std::byte* stored = row_at(cache, layout, slot);
  if (layout.format == RowFormat::int8) return store_int8(layout, stored, row);
  if (layout.format == RowFormat::f32) {
    std::memcpy(stored, row, layout.row_bytes());
    return;
  }
  for (int64_t i = 0; i < layout.dim; ++i) reinterpret_cast<uint16_t*>(stored)[i] = f32_to_bf16(row[i]);
}

const int8_t* index_key_codes(const CachePages& cache, int64_t slot) {
  return reinterpret_cast<const int8_t*>(row_at(cache, index_key_layout(cache), slot));
}

float index_key_scale(const CachePages& cache, int64_t slot) {
  return scale_of(index_key_layout(cache), row_at(cache, index_key_layout(cache), slot), 0);
}

}  // namespace indexshare
