// SPDX-License-Identifier: Apache-2.0
// cache[slot(position of row)] = x[row], rounded to the cache's format.
#include "backend/reference/cached_rows.h"
#include "backend/reference/reference_backend.h"

namespace indexshare {

namespace {

void write(const WriteCacheArgs& args, const RowLayout& layout) {
  for (const SequenceRows& sequence : args.sequences)
    for (int64_t row = sequence.row_begin; row < sequence.row_end; ++row) {
      const int64_t position = sequence.first_position + (row - sequence.row_begin);
      store_cached_row(args.cache, layout, slot_of(sequence, args.cache.page_size, position),
                       args.x + row * args.x_stride);
    }
}

}  // namespace

void ReferenceBackend::write_latents(const WriteCacheArgs& args) { write(args, latent_layout(args.cache)); }

void ReferenceBackend::write_index_keys(const WriteCacheArgs& args) {
  write(args, index_key_layout(args.cache));
}

}  // namespace indexshare
