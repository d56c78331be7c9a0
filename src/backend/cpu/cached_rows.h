// SPDX-License-Identifier: Apache-2.0
// Where the rows of a sequence stand in the cache.
#pragma once

#include "backend/backend.h"

namespace indexshare {

/// body(row, page, offset in page) for rows [begin, end) of a sequence.
template <class Body>
void for_each_cached_row(const SequenceRows& sequence, int64_t page_size, int64_t begin, int64_t end,
                         const Body& body) {
  for (int64_t i = begin; i < end; ++i) {
    const int64_t position = sequence.first_position + i;
    body(sequence.row_begin + i, sequence.page_table[position / page_size], position % page_size);
  }
}

}  // namespace indexshare
