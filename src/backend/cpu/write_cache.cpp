// SPDX-License-Identifier: Apache-2.0
// cache[position of row] = x[row], rounded to the cache's format. Latents lie row by row, index keys as
// index_keys.h says; rows are shared out among threads.
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/index_keys.h"
#include "base/check.h"
#include "base/dtype.h"

namespace indexshare {

namespace {

// to[i * stride] = x[i] for i < count.
void store_row(RowFormat format, const float* x, int64_t count, std::byte* to, int64_t stride) {
  if (format == RowFormat::f32 && stride == 1) {
    std::memcpy(to, x, static_cast<size_t>(count) * sizeof(float));
  } else if (format == RowFormat::f32) {
    for (int64_t i = 0; i < count; ++i) reinterpret_cast<float*>(to)[i * stride] = x[i];
  } else {
    for (int64_t i = 0; i < count; ++i) reinterpret_cast<uint16_t*>(to)[i * stride] = f32_to_bf16(x[i]);
  }
}

void check(const WriteCacheArgs& args) {
  ENSURE(args.cache.page_size > 0 && args.cache.row_dim > 0, "write_cache: pages of {} rows of {}",
         args.cache.page_size, args.cache.row_dim);
}

// body(row, page, offset in page) for the rows [begin, end) of a sequence.
template <class Body>
void for_each_row(const SequenceRows& sequence, int64_t page_size, int64_t begin, int64_t end,
                  const Body& body) {
  for (int64_t i = begin; i < end; ++i) {
    const int64_t position = sequence.first_position + i;
    body(sequence.row_begin + i, sequence.page_table[position / page_size], position % page_size);
  }
}

}  // namespace

void CpuBackend::write_latents(const WriteCacheArgs& args) {
  check(args);
  const CachePages& c = args.cache;
  const size_t page_stride = page_bytes(c.format, c.page_size, c.row_dim);
  const size_t row_bytes = row_format_bytes(c.format) * static_cast<size_t>(c.row_dim);
  for (const SequenceRows& sequence : args.sequences)
    parallel(
        sequence.row_end - sequence.row_begin, 1 + (1 << 16) / c.row_dim,
        [&](int64_t begin, int64_t end, int) {
          for_each_row(sequence, c.page_size, begin, end, [&](int64_t row, int64_t page, int64_t offset) {
            std::byte* to = static_cast<std::byte*>(c.pages) + static_cast<size_t>(page) * page_stride +
                            static_cast<size_t>(offset) * row_bytes;
            store_row(c.format, args.x + row * args.x_stride, c.row_dim, to, 1);
          });
        });
}

void CpuBackend::write_index_keys(const WriteCacheArgs& args) {
  check(args);
  const CachePages& c = args.cache;
  const IndexKeyLayout layout(c);
  for (const SequenceRows& sequence : args.sequences)
    parallel(
        sequence.row_end - sequence.row_begin, 1 + (1 << 16) / c.row_dim,
        [&](int64_t begin, int64_t end, int) {
          for_each_row(sequence, c.page_size, begin, end, [&](int64_t row, int64_t page, int64_t offset) {
            std::byte* group = layout.group(page, offset / kKeyGroup);
            std::byte* to = group + static_cast<size_t>(offset % kKeyGroup) * row_format_bytes(c.format);
            store_row(c.format, args.x + row * args.x_stride, c.row_dim, to, kKeyGroup);
          });
        });
}

}  // namespace indexshare
