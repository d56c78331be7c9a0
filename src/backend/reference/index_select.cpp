// SPDX-License-Identifier: Apache-2.0
//   score(t, s) = sum_h head_weights[t, h] * relu(sum_d queries[t, h, d] * key[s, d]),  h and d ascending
//   Top(t) = the topk largest by (score descending, position ascending), FILL: among s not in Fix(t)
//   Set(t) = Fix(t) joined with Top(t), ascending;  t + 1 <= topk: every s <= t, without scoring
// One query's scores at a time. relu keeps NaN, and a NaN at any s <= t, candidate or not, rejects a scored
// row.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <vector>

#include "backend/fixed_pattern.h"
#include "backend/quantise.h"
#include "backend/reference/cached_rows.h"
#include "backend/reference/reference_backend.h"
#include "base/check.h"

namespace indexshare {

namespace {

// A query against a key: sum_h head_weights[h] * relu(queries[h] . key).
float score(const IndexSelectArgs& args, int64_t row, const float* key) {
  float score = 0;
  for (int64_t h = 0; h < args.num_heads; ++h) {
    const float* query = args.queries + (row * args.num_heads + h) * args.head_dim;  // [head_dim]
    float dot = 0;
    for (int64_t d = 0; d < args.head_dim; ++d) dot += query[d] * key[d];
    score += args.head_weights[row * args.num_heads + h] * (dot < 0 ? 0.0f : dot);
  }
  return score;
}

/// A row's queries for int8 keys.
struct QuantisedQueries {
  QuantisedQueries(const IndexSelectArgs& args, int64_t row)
      : codes(args.num_heads * args.head_dim), weights(args.num_heads) {
    for (int64_t h = 0; h < args.num_heads; ++h) {
      const float* query = args.queries + (row * args.num_heads + h) * args.head_dim;
      const float scale = quantise_int8(query, args.head_dim, codes.data() + h * args.head_dim);
      weights[h] = args.head_weights[row * args.num_heads + h] * scale;
    }
  }
  std::vector<int8_t> codes;   // [num_heads, head_dim]
  std::vector<float> weights;  // [num_heads] head_weights * scale
};

float score_int8(const IndexSelectArgs& args, const QuantisedQueries& queries, const int8_t* key,
                 float key_scale) {
  constexpr int32_t kBias = 1 << 23;
  float sum = 0, sum_of_biases = 0;
  for (int64_t h = 0; h < args.num_heads; ++h) {
    int32_t dot = 0;
    for (int64_t d = 0; d < args.head_dim; ++d) dot += queries.codes[h * args.head_dim + d] * key[d];
    sum = std::fma(queries.weights[h], static_cast<float>(kBias + std::max(dot, 0)), sum);
    sum_of_biases = std::fma(queries.weights[h], static_cast<float>(kBias), sum_of_biases);
  }
  return key_scale * (sum - sum_of_biases);
}

// Scores of row's query against positions 0 .. t of its sequence.
std::vector<float> score_row(const IndexSelectArgs& args, const SequenceRows& sequence, int64_t row,
                             int64_t t) {
  std::vector<float> scores(t + 1), key(args.head_dim);
  const bool int8 = args.keys.format == RowFormat::int8;
  std::optional<QuantisedQueries> quantised;
  if (int8) quantised.emplace(args, row);
  for (int64_t s = 0; s <= t; ++s) {
    const int64_t slot = slot_of(sequence, args.keys.page_size, s);
    if (int8) {
      scores[s] =
          score_int8(args, *quantised, index_key_codes(args.keys, slot), index_key_scale(args.keys, slot));
    } else {
      load_cached_row(args.keys, index_key_layout(args.keys), slot, key.data());
      scores[s] = score(args, row, key.data());
    }
  }
  return scores;
}

// The topk best of the positions FILL or UNION lets compete, in any order.
std::vector<int32_t> best_positions(const IndexSelectArgs& args, const std::vector<float>& scores,
                                    const FixedSet& fixed) {
  std::vector<int32_t> best;
  for (int64_t s = 0; s < static_cast<int64_t>(scores.size()); ++s)
    if (args.pattern.mode == FixedPattern::Mode::union_ || !fixed.contains(s))
      best.push_back(static_cast<int32_t>(s));
  const auto count = std::min<int64_t>(args.topk, static_cast<int64_t>(best.size()));
  std::partial_sort(best.begin(), best.begin() + count, best.end(), [&](int32_t a, int32_t b) {
    return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
  });
  best.resize(count);
  return best;
}

// Set(t) in ascending order; false where a score is NaN.
bool select_row(const IndexSelectArgs& args, const SequenceRows& sequence, int64_t row, int64_t t,
                std::vector<int32_t>& chosen) {
  chosen.clear();
  if (t + 1 <= args.topk) {
    chosen.resize(t + 1);
    std::iota(chosen.begin(), chosen.end(), 0);
    return true;
  }
  const FixedSet fixed(args.pattern, t);
  fixed.append_to(chosen);
  if (args.topk == 0) return true;
  const std::vector<float> scores = score_row(args, sequence, row, t);
  if (std::any_of(scores.begin(), scores.end(), [](float score) { return std::isnan(score); })) return false;
  for (int32_t s : best_positions(args, scores, fixed))
    if (!fixed.contains(s)) chosen.push_back(s);
  std::sort(chosen.begin(), chosen.end());
  return true;
}

}  // namespace

void ReferenceBackend::index_select(const IndexSelectArgs& args) {
  ENSURE(args.topk > 0 || args.pattern.active(), "neither top-k nor a fixed pattern");
  std::vector<int32_t> chosen;
  for (const SequenceRows& sequence : args.sequences)
    for (int64_t row = sequence.row_begin; row < sequence.row_end; ++row) {
      const int64_t t = sequence.first_position + (row - sequence.row_begin);
      const bool valid = select_row(args, sequence, row, t, chosen);
      if (!valid) chosen.clear();
      const auto count = static_cast<int64_t>(chosen.size());
      ENSURE(count <= args.width, "{} positions selected for a width of {}", count, args.width);
      int32_t* positions = args.positions + row * args.width;
      std::copy(chosen.begin(), chosen.end(), positions);
      std::fill(positions + count, positions + args.width, -1);
      args.counts[row] = valid ? static_cast<int32_t>(count) : -1;
    }
}

}  // namespace indexshare
