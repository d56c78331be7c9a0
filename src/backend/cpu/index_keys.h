// SPDX-License-Identifier: Apache-2.0
// Index keys inside a page: groups of 16 keys, [ceil(page_size/16)][row_dim][16] in the cache's format, so
// that one vector holds one dimension of 16 keys. The last group of a page may be partly unused.
#pragma once

#include "backend/backend.h"

namespace indexshare {

constexpr int64_t kKeyGroup = 16;

struct IndexKeyLayout {
  explicit IndexKeyLayout(const CachePages& cache)
      : pages(static_cast<std::byte*>(cache.pages)),
        groups_per_page((cache.page_size + kKeyGroup - 1) / kKeyGroup),
        group_bytes(row_format_bytes(cache.format) * static_cast<size_t>(cache.row_dim * kKeyGroup)) {}

  /// [row_dim][16]
  std::byte* group(int64_t page, int64_t group_of_page) const {
    return pages + static_cast<size_t>(page * groups_per_page + group_of_page) * group_bytes;
  }

  std::byte* pages;
  int64_t groups_per_page;
  size_t group_bytes;
};

}  // namespace indexshare
