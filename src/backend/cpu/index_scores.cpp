// SPDX-License-Identifier: Apache-2.0
//   score(r, s) = scale[s] * sum_h weights[r, h] * relu(queries[r, h] . key[s]),  h and dimension ascending
// in f32; scale is that of an int8 key, else 1. Lanes are keys: each dot product is one chain of FMAs, so a
// score does not depend on who else is scored. Keys are widened to f32 two groups at a time. Codes of int8
// keys and queries give exact dot products (kMaxInt8Dim).
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

// Adds R heads' share of the scores of kLanes keys of two groups [dim][16].
template <int R>
HWY_INLINE void add_heads(const float* queries, const float* weights, int64_t dim, const float* keys0,
                          const float* keys1, Floats& score0, Floats& score1) {
  Floats acc0[R], acc1[R];
  const Floats zero = hn::Zero(FloatTag());
  for (int r = 0; r < R; ++r) acc0[r] = acc1[r] = zero;
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
    score0 = fused_multiply_add(w, hn::IfThenElse(hn::Lt(acc0[r], zero), zero, acc0[r]), score0);
    score1 = fused_multiply_add(w, hn::IfThenElse(hn::Lt(acc1[r], zero), zero, acc1[r]), score1);
  }
}

// Scores of one row against kLanes keys of two groups.
HWY_INLINE void score_keys(const PackedQueries& p, int64_t row, const float* keys0, const float* keys1,
                           Floats& score0, Floats& score1) {
  const float* queries = reinterpret_cast<const float*>(p.queries) + row * p.num_heads * p.dim;
  const float* weights = p.weights + row * p.num_heads;
  score0 = score1 = hn::Zero(FloatTag());
  int64_t h = 0;
  for (; h + kHeads <= p.num_heads; h += kHeads)
    add_heads<kHeads>(queries + h * p.dim, weights + h, p.dim, keys0, keys1, score0, score1);
  for (; h + 4 <= p.num_heads; h += 4)
    add_heads<4>(queries + h * p.dim, weights + h, p.dim, keys0, keys1, score0, score1);
  for (; h < p.num_heads; ++h)
    add_heads<1>(queries + h * p.dim, weights + h, p.dim, keys0, keys1, score0, score1);
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

void score_chunk(const ScoreArgs& args, const KeyChunk& chunk) {
  const PackedQueries& p = args.queries;
  const bool scaled = args.layout.format == RowFormat::int8;
  for (int64_t g = 0; g < kChunkGroups; g += 2) {
    const float* keys0 = widen(args, chunk.group[g], args.wide_keys);
    const float* keys1 = widen(args, chunk.group[g + 1], args.wide_keys + p.dim * kKeyGroup);
    for (int64_t row = 0; row < p.num_rows; ++row)
      for (size_t v = 0; v < kKeyGroup; v += kLanes) {
        Floats score0, score1;
        score_keys(p, row, keys0 + v, keys1 + v, score0, score1);
        if (scaled) {
          score0 = hn::Mul(score0, load(args.layout.scales(chunk.group[g]) + v));
          score1 = hn::Mul(score1, load(args.layout.scales(chunk.group[g + 1]) + v));
        }
        float* scores = args.scores + row * kChunkKeys + g * kKeyGroup + static_cast<int64_t>(v);
        store(score0, scores);
        store(score1, scores + kKeyGroup);
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
