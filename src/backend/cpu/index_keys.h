// SPDX-License-Identifier: Apache-2.0
// Index keys inside a page: groups of 16 keys, so that one vector holds the same dimensions of 16 keys. The
// last group of a page may be partly unused.
//   f32, bf16   [ceil(page_size/16)][row_dim][16]
#pragma once

#include "backend/backend.h"

namespace indexshare {

constexpr int64_t kKeyGroup = 16;

struct IndexKeyLayout {
  explicit IndexKeyLayout(const CachePages& cache)
      : pages(static_cast<std::byte*>(cache.pages)),
        groups_per_page((cache.page_size + kKeyGroup - 1) / kKeyGroup),
        element_bytes(cache.format == RowFormat::f32 ? 4 : 2),
        group_bytes(element_bytes * static_cast<size_t>(cache.row_dim * kKeyGroup)),
        page_bytes(group_bytes * static_cast<size_t>(groups_per_page)) {}

  /// [row_dim][16]
  std::byte* group(int64_t page, int64_t group_of_page) const {
    return pages + static_cast<size_t>(page) * page_bytes + static_cast<size_t>(group_of_page) * group_bytes;
  }

  std::byte* pages;
  int64_t groups_per_page;
  size_t element_bytes, group_bytes, page_bytes;
};

}  // namespace indexshare
