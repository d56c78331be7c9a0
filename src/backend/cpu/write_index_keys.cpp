// SPDX-License-Identifier: Apache-2.0
// cache[position of row] = x[row], rounded to the cache's format, in the layout of index_keys.h; rows are
// shared out among threads.
#include <array>
#include <cstring>

#include "backend/cpu/cached_rows.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/index_keys.h"
#include "backend/quantise.h"
#include "base/check.h"
#include "base/dtype.h"

namespace indexshare {

namespace {

// Stores key number `lane` of a group.
void store_f32(const float* x, int64_t dim, int64_t lane, std::byte* group) {
  for (int64_t d = 0; d < dim; ++d) reinterpret_cast<float*>(group)[d * kKeyGroup + lane] = x[d];
}

void store_bf16(const float* x, int64_t dim, int64_t lane, const IndexKeyLayout& layout, std::byte* group) {
  auto* pairs = reinterpret_cast<uint16_t*>(group) + lane * 2;
  for (int64_t d = 0; d < layout.padded_dim; ++d)
    pairs[d / 2 * 2 * kKeyGroup + d % 2] = d < dim ? f32_to_bf16(x[d]) : uint16_t{0};
}

void store_int8(const float* x, int64_t dim, int64_t lane, const IndexKeyLayout& layout, std::byte* group) {
  std::array<int8_t, kMaxInt8Dim> codes;
  const float scale = quantise_int8(x, dim, codes.data());
  std::fill(codes.begin() + dim, codes.begin() + layout.padded_dim, int8_t{0});
  for (int64_t d = 0; d < layout.padded_dim; d += 4)
    std::memcpy(group + d * kKeyGroup + lane * 4, codes.data() + d, 4);
  std::memcpy(group + layout.scales_at + lane * 4, &scale, sizeof scale);
}

}  // namespace

void CpuBackend::write_index_keys(const WriteCacheArgs& args) {
  const CachePages& c = args.cache;
  ENSURE(c.page_size > 0 && c.row_dim > 0, "write_index_keys: pages of {} rows of {}", c.page_size,
         c.row_dim);
  ENSURE(c.format != RowFormat::int8 || c.row_dim <= kMaxInt8Dim, "write_index_keys: int8 rows of {}",
         c.row_dim);
  const IndexKeyLayout layout(c);
  const auto store = [&](int64_t row, int64_t page, int64_t offset) {
    const float* x = args.x + row * args.x_stride;
    std::byte* group = layout.group(page, offset / kKeyGroup);
    const int64_t lane = offset % kKeyGroup;
    if (c.format == RowFormat::f32)
      store_f32(x, c.row_dim, lane, group);
    else if (c.format == RowFormat::bf16)
      store_bf16(x, c.row_dim, lane, layout, group);
    else
      store_int8(x, c.row_dim, lane, layout, group);
  };
  for (const SequenceRows& sequence : args.sequences)
    parallel(sequence.row_end - sequence.row_begin, 1 + (1 << 16) / c.row_dim,
             [&](int64_t begin, int64_t end, int) {
               for_each_cached_row(sequence, c.page_size, begin, end, store);
             });
}

}  // namespace indexshare
