// SPDX-License-Identifier: Apache-2.0
// What rows would attend to if attention were dense: softmax over every visible position, a head at a time,
// from the absorbed queries and the cached latents that attention itself reads. For analysis: plain loops,
// one row at a time, the cache read back in blocks, and no FLOPs counted, as it is no part of the model.
#include <algorithm>
#include <array>
#include <cmath>

#include "model/model.h"

namespace indexshare {

namespace {

constexpr int64_t kBlock = 256;  // positions read back at a time

// Eight partial sums: the compiler may keep them in one register, as it may not reorder a single sum.
float dot(const float* x, const float* y, int64_t dim) {
  std::array<float, 8> sums{};
  int64_t i = 0;
  for (; i + 8 <= dim; i += 8)
    for (int64_t lane = 0; lane < 8; ++lane) sums[lane] += x[i + lane] * y[i + lane];
  for (; i < dim; ++i) sums[0] += x[i] * y[i];
  float total = 0;
  for (const float sum : sums) total += sum;
  return total;
}

// logits -> probabilities, in place. The sum is taken in double: it may run over a million terms.
void softmax(std::span<float> values) {
  const float largest = *std::ranges::max_element(values);
  double sum = 0;
  for (float& value : values) sum += value = std::exp(value - largest);
  for (float& value : values) value = static_cast<float>(value / sum);
}

// The sequence that holds `row` of the batch.
const SequenceRows& sequence_of(const Batch& batch, int64_t row) {
  return *std::ranges::find_if(batch.sequences, [&](const SequenceRows& s) { return row < s.row_end; });
}

}  // namespace

void Model::probe_attention(int layer, const Batch& batch, PagedCache& cache, TopkIndices& selection) {
  for (const int64_t row : batch.probe_rows) probe_row(layer, batch, row, cache, selection);
}

void Model::probe_row(int layer, const Batch& batch, int64_t row, PagedCache& cache, TopkIndices& selection) {
  const int64_t position = batch.positions[row], visible = position + 1;
  const int64_t heads = config_.num_heads, rank = config_.kv_lora_rank, row_dim = config_.latent_row_dim();
  const float* query_latent = workspace_.query_latent + row * heads * rank;  // [heads, rank]
  const float* query = workspace_.query + row * heads * config_.qk_dim();    // [heads, nope + rope]
  std::vector<float> block(static_cast<size_t>(kBlock * row_dim));
  std::vector<float> probabilities(static_cast<size_t>(heads * visible));
  for (int64_t begin = 0; begin < visible; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, visible);
    backend_.read_latents({.cache = cache.latents(layer),
                           .page_table = sequence_of(batch, row).page_table,
                           .position_begin = begin,
                           .position_end = end,
                           .rows = block.data()});
    for (int64_t h = 0; h < heads; ++h)
      for (int64_t s = begin; s < end; ++s) {
        const float* latent = block.data() + (s - begin) * row_dim;
        const float logit =
            dot(query_latent + h * rank, latent, rank) +
            dot(query + h * config_.qk_dim() + config_.nope_dim, latent + rank, config_.rope_dim);
        probabilities[h * visible + s] = logit * config_.softmax_scale;
      }
  }
  for (int64_t h = 0; h < heads; ++h)
    softmax(std::span(probabilities).subspan(static_cast<size_t>(h * visible), static_cast<size_t>(visible)));
  std::span<const int32_t> chosen;
  if (selects(batch))
    chosen = {selection.positions() + row * selection.width(),
              static_cast<size_t>(std::max(selection.counts()[row], 0))};
  batch.attention_probe(layer, position, probabilities, chosen);
}

}  // namespace indexshare
