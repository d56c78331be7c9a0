// SPDX-License-Identifier: Apache-2.0
// rows[i] = cache[position_begin + i], widened from the cache's format (latents.h); positions are shared out
// among threads.
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/latents.h"
#include "base/dtype.h"

namespace indexshare {

namespace {

void load_bf16(const std::byte* from, int64_t count, float* row) {
  for (int64_t i = 0; i < count; ++i) row[i] = load_as_f32(DType::bf16, from, i);
}

void load_int8(const CachePages& cache, const LatentLayout& layout, const std::byte* from, float* row) {
  const auto* codes = reinterpret_cast<const int8_t*>(from);
  for (int64_t i = 0; i < layout.num_codes; ++i) {
    float scale;
    std::memcpy(&scale, from + layout.scales_at + i / kLatentScaleGroup * 4, sizeof scale);
    row[i] = static_cast<float>(codes[i]) * scale;
  }
  load_bf16(from + layout.tail_at, cache.bf16_tail, row + layout.num_codes);
}

void load_row(const CachePages& cache, const LatentLayout& layout, const std::byte* from, float* row) {
  switch (cache.format) {
    case RowFormat::f32:
      std::memcpy(row, from, layout.row_bytes);
      return;
    case RowFormat::bf16:
      return load_bf16(from, cache.row_dim, row);
    case RowFormat::int8:
      return load_int8(cache, layout, from, row);
  }
}

}  // namespace

void CpuBackend::read_latents(const ReadLatentsArgs& args) {
  const CachePages& c = args.cache;
  const LatentLayout layout(c);
  parallel(args.position_end - args.position_begin, 1 + (1 << 16) / c.row_dim,
           [&](int64_t begin, int64_t end, int) {
             for (int64_t i = begin; i < end; ++i) {
               const int64_t position = args.position_begin + i;
               load_row(c, layout,
                        layout.row(args.page_table[position / c.page_size], position % c.page_size),
                        args.rows + i * c.row_dim);
             }
           });
}

}  // namespace indexshare
