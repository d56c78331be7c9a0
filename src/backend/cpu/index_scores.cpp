// SPDX-License-Identifier: Apache-2.0
//   score(r, s) = sum_h weights[r, h] * relu(queries[r, h] . key[s]),  h and dimension ascending
//   score(r, s) = scale[s] * (sum_h weights[r, h] * (2^23 + relu(queries[r, h] . key[s])) - biases[r])
// in f32, the second for int8 keys, whose dot products with codes are exact (kMaxInt8Dim) though they start
// at 2^23. Lanes are keys: each dot product is one chain of FMAs, so a score does not depend on who else is
// scored. Keys are widened to f32 two groups at a time.
#include "backend/cpu/index_scores.h"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/index_scores.cpp"
#include "backend/cpu/targets.h"
// After targets.h.
#include <hwy/highway.h>

#include "backend/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace indexshare {
namespace HWY_NAMESPACE {

// Heads of a register tile: kHeads x 2 vectors of keys.
constexpr int kHeads = kLanes == 16 ? 8 : 4;

// Rounded once on every machine, as the definition of int8 scores wants it.
HWY_INLINE Floats fused_multiply_add(Floats a, Floats b, Floats c) {
#if HWY_NATIVE_FMA
  return hn::MulAdd(a, b, c);
#else
  float x[kLanes], y[kLanes], z[kLanes];
  store(a, x), store(b, y), store(c, z);
  for (size_t i = 0; i < kLanes; ++i) z[i] = std::fma(x[i], y[i], z[i]);
  return load(z);
#endif
}

// Adds R heads' share of the scores of kLanes keys of two groups [dim][16]; dot products start at `start`.
template <int R>
HWY_INLINE void add_heads(const float* queries, const float* weights, int64_t dim, Floats start,
                          const float* keys0, const float* keys1, Floats& score0, Floats& score1) {
  Floats acc0[R], acc1[R];
  for (int r = 0; r < R; ++r) acc0[r] = acc1[r] = start;
  for (int64_t d = 0; d < dim; ++d) {
    const Floats k0 = load(keys0 + d * kKeyGroup), k1 = load(keys1 + d * kKeyGroup);
    for (int r = 0; r < R; ++r) {
      const Floats q = broadcast(queries[r * dim + d]);
      acc0[r] = hn::MulAdd(q, k0, acc0[r]);
      acc1[r] = hn::MulAdd(q, k1, acc1[r]);
    }
  }
  for (int r = 0; r < R; ++r) {  // relu by comparison: NaN stays
    const Floats w = broadcast(weights[r]);
    score0 = fused_multiply_add(w, hn::IfThenElse(hn::Lt(acc0[r], start), start, acc0[r]), score0);
    score1 = fused_multiply_add(w, hn::IfThenElse(hn::Lt(acc1[r], start), start, acc1[r]), score1);
  }
}

// Scores of one row against kLanes keys of two groups.
HWY_INLINE void score_keys(const PackedQueries& p, int64_t row, Floats start, const float* keys0,
                           const float* keys1, Floats& score0, Floats& score1) {
  const float* queries = reinterpret_cast<const float*>(p.queries) + row * p.num_heads * p.dim;
  const float* weights = p.weights + row * p.num_heads;
  score0 = score1 = hn::Zero(FloatTag());
  int64_t h = 0;
  for (; h + kHeads <= p.num_heads; h += kHeads)
    add_heads<kHeads>(queries + h * p.dim, weights + h, p.dim, start, keys0, keys1, score0, score1);
  for (; h + 4 <= p.num_heads; h += 4)
    add_heads<4>(queries + h * p.dim, weights + h, p.dim, start, keys0, keys1, score0, score1);
  for (; h < p.num_heads; ++h)
    add_heads<1>(queries + h * p.dim, weights + h, p.dim, start, keys0, keys1, score0, score1);
}

// [dim/2][16][2] bf16 to [dim][16].
HWY_INLINE void widen_bf16_pairs(const std::byte* group, int64_t dim, float* to) {
  const IntTag di;
  const auto high = hn::Set(di, static_cast<int32_t>(0xffff0000));
  for (int64_t d = 0; d < dim; ++d)
    for (size_t v = 0; v < kKeyGroup; v += kLanes) {
      const auto pair = hn::LoadU(
          di, reinterpret_cast<const int32_t*>(group) + d / 2 * kKeyGroup + static_cast<int64_t>(v));
      const auto bits = d % 2 ? hn::And(pair, high) : hn::ShiftLeft<16>(pair);
      store(hn::BitCast(FloatTag(), bits), to + d * kKeyGroup + static_cast<int64_t>(v));
    }
}

// [dim/4][16][4] codes to [dim][16].
HWY_INLINE void widen_codes(const std::byte* group, int64_t dim, float* to) {
  const IntTag di;
  for (int64_t d = 0; d < dim; ++d)
    for (size_t v = 0; v < kKeyGroup; v += kLanes) {
      const auto four = hn::LoadU(
          di, reinterpret_cast<const int32_t*>(group) + d / 4 * kKeyGroup + static_cast<int64_t>(v));
      const auto code = hn::ShiftRight<24>(hn::ShiftLeftSame(four, static_cast<int>(24 - d % 4 * 8)));
      store(hn::ConvertTo(FloatTag(), code), to + d * kKeyGroup + static_cast<int64_t>(v));
    }
}

// The group as [dim][16] f32, in place where it is that already.
const float* widen(const ScoreArgs& args, const std::byte* group, float* to) {
  if (args.layout.format == RowFormat::f32) return reinterpret_cast<const float*>(group);
  const auto widen_group = args.layout.format == RowFormat::bf16 ? widen_bf16_pairs : widen_codes;
  widen_group(group, args.queries.dim, to);
  return to;
}

// The bits of ScoreArgs::passes of a group.
HWY_INLINE uint16_t passing(const float* scores, float threshold) {
  uint32_t bits = 0;
  for (int64_t i = 0; i < kKeyGroup; ++i) bits |= uint32_t{!(scores[i] <= threshold)} << i;
  return static_cast<uint16_t>(bits);
}

void score_chunk(const ScoreArgs& args, const KeyChunk& chunk, const KeyChunk* next) {
  const PackedQueries& p = args.queries;
  const bool int8 = args.layout.format == RowFormat::int8;
  const Floats start = broadcast(int8 ? kDotBias : 0.0f);
  for (int64_t g = 0; g < kChunkGroups; g += 2) {
    const float* keys0 = widen(args, chunk.group[g], args.wide_keys);
    const float* keys1 = widen(args, chunk.group[g + 1], args.wide_keys + p.dim * kKeyGroup);
    for (int64_t row = 0; row < p.num_rows; ++row) {
      const FetchPart part(args, next, row, p.num_rows);
      part.fetch(g), part.fetch(g + 1);
      float* scores = args.scores + row * kChunkKeys + g * kKeyGroup;
      for (size_t v = 0; v < kKeyGroup; v += kLanes) {
        Floats score0, score1;
        score_keys(p, row, start, keys0 + v, keys1 + v, score0, score1);
        if (int8) {
          const Floats bias = broadcast(p.biases[row]);
          score0 = hn::Mul(hn::Sub(score0, bias), load(args.layout.scales(chunk.group[g]) + v));
          score1 = hn::Mul(hn::Sub(score1, bias), load(args.layout.scales(chunk.group[g + 1]) + v));
        }
        store(score0, scores + v);
        store(score1, scores + kKeyGroup + v);
      }
      uint16_t* passes = args.passes + row * kChunkGroups + g;
      passes[0] = passing(scores, args.thresholds[row]);
      passes[1] = passing(scores + kKeyGroup, args.thresholds[row]);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace indexshare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace indexshare {

HWY_EXPORT(score_chunk);

ScoreChunk f32_score_chunk(size_t table_index) { return HWY_DISPATCH_TABLE(score_chunk)[table_index]; }

}  // namespace indexshare
#endif
