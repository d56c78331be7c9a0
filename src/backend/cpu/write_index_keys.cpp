// SPDX-License-Identifier: Apache-2.0
// cache[position of row] = x[row], rounded to the cache's format, in the layout of index_keys.h; rows are
// shared out among threads.
#include "backend/cpu/cached_rows.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/index_keys.h"
#include "base/check.h"
#include "base/dtype.h"

namespace indexshare {

void CpuBackend::write_index_keys(const WriteCacheArgs& args) {
  const CachePages& c = args.cache;
  ENSURE(c.page_size > 0 && c.row_dim > 0, "write_index_keys: pages of {} rows of {}", c.page_size,
         c.row_dim);
  ENSURE(c.format != RowFormat::int8, "write_index_keys: int8 keys are not there yet");
  const IndexKeyLayout layout(c);
  const auto store = [&](int64_t row, int64_t page, int64_t offset) {
    const float* x = args.x + row * args.x_stride;
    std::byte* to = layout.group(page, offset / kKeyGroup) +
                    static_cast<size_t>(offset % kKeyGroup) * layout.element_bytes;
    for (int64_t d = 0; d < c.row_dim; ++d) {
      if (c.format == RowFormat::f32)
        reinterpret_cast<float*>(to)[d * kKeyGroup] = x[d];
      else
        reinterpret_cast<uint16_t*>(to)[d * kKeyGroup] = f32_to_bf16(x[d]);
    }
  };
  for (const SequenceRows& sequence : args.sequences)
    parallel(sequence.row_end - sequence.row_begin, 1 + (1 << 16) / c.row_dim,
             [&](int64_t begin, int64_t end, int) {
               for_each_cached_row(sequence, c.page_size, begin, end, store);
             });
}

}  // namespace indexshare
