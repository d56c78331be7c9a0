// SPDX-License-Identifier: Apache-2.0
//   logit(h, s) = (query_latent[h] . latent[s] + query_rope[h] . rope[s]) * scale
//   output[h] = sum_s exp(logit - max) / sum(exp(logit - max)) * latent[s]
// over the row's selection, or every s <= t, in ascending position. An empty selection gives a row of zeros.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "backend/reference/cached_rows.h"
#include "backend/reference/reference_backend.h"

namespace indexshare {

namespace {

// The attended rows of the cache, [count, latent_dim + rope_dim] f32.
std::vector<float> gather_rows(const SparseAttentionArgs& args, const SequenceRows& sequence, int64_t row,
                               int64_t count) {
  std::vector<float> rows(count * args.cache.row_dim);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t slot =
        args.slots ? args.slots[row * args.width + i] : slot_of(sequence, args.cache.page_size, i);
    load_cached_row(args.cache, latent_layout(args.cache), slot, rows.data() + i * args.cache.row_dim);
  }
  return rows;
}

// logits -> probabilities, in place.
void softmax(std::vector<float>& values) {
  float largest = -std::numeric_limits<float>::infinity();
  for (float value : values) largest = std::max(largest, value);
  float sum = 0;
  for (float& value : values) sum += value = std::exp(value - largest);
  for (float& value : values) value /= sum;
}

// One head of one row. rows: [count, row_dim]; output: [latent_dim].
void attend(const SparseAttentionArgs& args, const std::vector<float>& rows, const float* query_latent,
            const float* query_rope, std::vector<float>& weights, float* output) {
  const int64_t row_dim = args.cache.row_dim;
  for (size_t i = 0; i < weights.size(); ++i) {
    const float* latent = rows.data() + static_cast<int64_t>(i) * row_dim;
    const float* rope = latent + args.latent_dim;
    float dot = 0;
    for (int64_t d = 0; d < args.latent_dim; ++d) dot += query_latent[d] * latent[d];
    for (int64_t d = 0; d < args.rope_dim; ++d) dot += query_rope[d] * rope[d];
    weights[i] = dot * args.scale;
  }
  softmax(weights);
  std::fill_n(output, args.latent_dim, 0.0f);
  for (size_t i = 0; i < weights.size(); ++i) {
    const float* latent = rows.data() + static_cast<int64_t>(i) * row_dim;
    for (int64_t d = 0; d < args.latent_dim; ++d) output[d] += weights[i] * latent[d];
  }
}

}  // namespace

void ReferenceBackend::sparse_attention(const SparseAttentionArgs& args) {
  for (const SequenceRows& sequence : args.sequences)
    for (int64_t row = sequence.row_begin; row < sequence.row_end; ++row) {
      const int64_t visible = sequence.first_position + (row - sequence.row_begin) + 1;
      const int64_t count = args.slots ? args.counts[row] : visible;
      float* output = args.output + row * args.num_heads * args.latent_dim;  // [num_heads, latent_dim]
      if (count < 0) {
        std::fill_n(output, args.num_heads * args.latent_dim, std::numeric_limits<float>::quiet_NaN());
        continue;
      }
      const std::vector<float> rows = gather_rows(args, sequence, row, count);
      std::vector<float> weights(count);
      for (int64_t h = 0; h < args.num_heads; ++h)
        attend(args, rows, args.query_latent + (row * args.num_heads + h) * args.latent_dim,
               args.query_rope + row * args.rope_row_stride + h * args.rope_head_stride, weights,
               output + h * args.latent_dim);
    }
}

}  // namespace indexshare
