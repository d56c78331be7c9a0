// SPDX-License-Identifier: Apache-2.0
// cache[position of row] = x[row], rounded to the cache's format (latents.h); rows are shared out among
// threads.
#include <cstring>

#include "backend/cpu/cached_rows.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/latents.h"
#include "base/check.h"
#include "base/dtype.h"

namespace indexshare {

namespace {

void store_bf16(const float* x, int64_t count, std::byte* to) {
  for (int64_t i = 0; i < count; ++i) {
    const uint16_t bits = f32_to_bf16(x[i]);
    std::memcpy(to + i * 2, &bits, sizeof bits);
  }
}

void store_int8(const float* x, const CachePages& cache, const LatentLayout& layout, std::byte* to) {
  for (int64_t begin = 0; begin < layout.num_codes; begin += kLatentScaleGroup) {
    const int64_t count = std::min(kLatentScaleGroup, layout.num_codes - begin);
    const float scale = quantise_int8(x + begin, count, reinterpret_cast<int8_t*>(to + begin));
    std::memcpy(to + layout.scales_at + begin / kLatentScaleGroup * 4, &scale, sizeof scale);
  }
  store_bf16(x + layout.num_codes, cache.bf16_tail, to + layout.tail_at);
}

}  // namespace

void CpuBackend::write_latents(const WriteCacheArgs& args) {
  const CachePages& c = args.cache;
  ENSURE(c.page_size > 0 && c.row_dim > 0, "write_latents: pages of {} rows of {}", c.page_size, c.row_dim);
  const LatentLayout layout(c);
  const auto store = [&](int64_t row, int64_t page, int64_t offset) {
    const float* x = args.x + row * args.x_stride;
    std::byte* to = layout.row(page, offset);
    if (c.format == RowFormat::f32) {
      std::memcpy(to, x, layout.row_bytes);
    } else if (c.format == RowFormat::bf16) {
      store_bf16(x, c.row_dim, to);
    } else {
      store_int8(x, c, layout, to);
    }
  };
  for (const SequenceRows& sequence : args.sequences)
    parallel(sequence.row_end - sequence.row_begin, 1 + (1 << 16) / c.row_dim,
             [&](int64_t begin, int64_t end, int) {
               for_each_cached_row(sequence, c.page_size, begin, end, store);
             });
}

}  // namespace indexshare
