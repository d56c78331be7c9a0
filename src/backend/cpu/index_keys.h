// SPDX-License-Identifier: Apache-2.0
// Index keys inside a page: groups of 16 keys, one vector lane or tile column a key, so that nothing is
// packed when they are scored. The last group of a page may be partly unused. A group is, zeros padding
// dimensions,
//   f32    [row_dim][16]
//   bf16   [row_dim padded to 32][16] in pairs of dimensions:   [dim/2][16][2]
//   int8   [row_dim padded to 64][16] in fours:                 [dim/4][16][4], then [16] f32 scales
// so that 1 KiB of bf16 or int8 is the B tile of 32 or 64 dimensions (tiles-inl.h).
#pragma once

#include "backend/backend.h"

namespace indexshare {

constexpr int64_t kKeyGroup = 16;
constexpr int64_t kMaxInt8Dim = 512;  // up to here kDotBias + a dot product of codes is exact in f32
constexpr float kDotBias = 8388608;   // 2^23, of the definition (backend.h)

struct IndexKeyLayout {
  explicit IndexKeyLayout(const CachePages& cache)
      : format(cache.format),
        pages(static_cast<std::byte*>(cache.pages)),
        groups_per_page((cache.page_size + kKeyGroup - 1) / kKeyGroup),
        padded_dim(padded(cache.format, cache.row_dim)),
        element_bytes(cache.format == RowFormat::f32    ? 4
                      : cache.format == RowFormat::bf16 ? 2
                                                        : 1),
        scales_at(element_bytes * static_cast<size_t>(padded_dim * kKeyGroup)),
        group_bytes(scales_at + (cache.format == RowFormat::int8 ? kKeyGroup * sizeof(float) : 0)),
        page_bytes(group_bytes * static_cast<size_t>(groups_per_page)) {}

  static int64_t padded(RowFormat format, int64_t dim) {
    const int64_t unit = format == RowFormat::f32 ? 1 : format == RowFormat::bf16 ? 32 : 64;
    return (dim + unit - 1) / unit * unit;
  }

  std::byte* group(int64_t page, int64_t group_of_page) const {
    return pages + static_cast<size_t>(page) * page_bytes + static_cast<size_t>(group_of_page) * group_bytes;
  }

  /// Those of an int8 group.
  const float* scales(const std::byte* group) const {
    return reinterpret_cast<const float*>(group + scales_at);
  }

  RowFormat format;
  std::byte* pages;
  int64_t groups_per_page, padded_dim;
  size_t element_bytes;
  size_t scales_at;  // bytes from the group's begin, int8 only
  size_t group_bytes, page_bytes;
};

constexpr int64_t kChunkGroups = 16;
constexpr int64_t kChunkKeys = kChunkGroups * kKeyGroup;

/// Groups of a sequence's keys in ascending position, scored together.
struct KeyChunk {
  const std::byte* group[kChunkGroups];  // where the sequence has ended the first one again, with size 0
  int64_t position[kChunkGroups];        // of a group's first key
  int64_t size[kChunkGroups];            // how many of the 16 keys exist
};

}  // namespace indexshare
