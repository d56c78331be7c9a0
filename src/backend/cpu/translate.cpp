// SPDX-License-Identifier: Apache-2.0
// slots[row, i] = page_table[position / page_size] * page_size + position % page_size for i < count, else -1;
// rows are shared out among threads.
#include <algorithm>

#include "backend/cpu/cpu_backend.h"
#include "base/check.h"

namespace indexshare {

void CpuBackend::translate(const TranslateArgs& args) {
  ENSURE(args.page_size > 0, "translate: page_size {}", args.page_size);
  for (const SequenceRows& sequence : args.sequences) {
    const int64_t rows = sequence.row_end - sequence.row_begin;
    parallel(rows, 1 + 30'000 / (args.width + 1), [&](int64_t begin, int64_t end, int) {
      for (int64_t row = sequence.row_begin + begin; row < sequence.row_begin + end; ++row) {
        const int32_t* positions = args.positions + row * args.width;
        int32_t* slots = args.slots + row * args.width;
        const int64_t count = std::clamp<int64_t>(args.counts[row], 0, args.width);
        const auto page_size = static_cast<uint32_t>(args.page_size);
        for (int64_t i = 0; i < count; ++i) {
          const auto position = static_cast<uint32_t>(positions[i]);
          slots[i] = sequence.page_table[position / page_size] * static_cast<int32_t>(page_size) +
                     static_cast<int32_t>(position % page_size);
        }
        std::fill(slots + count, slots + args.width, -1);
      }
    });
  }
}

}  // namespace indexshare
