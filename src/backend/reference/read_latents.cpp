// SPDX-License-Identifier: Apache-2.0
// rows[i] = cache[position_begin + i], widened from the cache's format.
#include "backend/reference/cached_rows.h"
#include "backend/reference/reference_backend.h"

namespace indexshare {

void ReferenceBackend::read_latents(const ReadLatentsArgs& args) {
  const RowLayout layout = latent_layout(args.cache);
  const SequenceRows sequence{.page_table = args.page_table};
  for (int64_t position = args.position_begin; position < args.position_end; ++position)
    load_cached_row(args.cache, layout, slot_of(sequence, args.cache.page_size, position),
                    args.rows + (position - args.position_begin) * args.cache.row_dim);
}

}  // namespace indexshare
