// SPDX-License-Identifier: Apache-2.0
// slots[row, i] = page_table[position / page_size] * page_size + position % page_size for i < count, else -1
#include "backend/reference/cached_rows.h"
#include "backend/reference/reference_backend.h"

namespace indexshare {

void ReferenceBackend::translate(const TranslateArgs& args) {
  for (const SequenceRows& sequence : args.sequences)
    for (int64_t row = sequence.row_begin; row < sequence.row_end; ++row)
      for (int64_t i = 0; i < args.width; ++i) {
        const int64_t n = row * args.width + i;
        const bool used = i < args.counts[row];
        args.slots[n] =
            used ? static_cast<int32_t>(slot_of(sequence, args.page_size, args.positions[n])) : int32_t{-1};
      }
}

}  // namespace indexshare
