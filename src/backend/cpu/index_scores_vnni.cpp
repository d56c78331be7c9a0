// SPDX-License-Identifier: Apache-2.0
//   score(r, s) = scale[s] * (sum_h weights[r, h] * (2^23 + relu(queries[r, h] . key[s])) - biases[r])
// int8 codes, h ascending. Lanes are keys. The instruction multiplies unsigned by signed bytes: key + 128 is
// unsigned, and what that adds, 128 times the sum of the query's codes, is taken off where a dot product
// starts. Its start, beyond that, has the bits of 2^23 as a float: so those of 2^23 + dot come out.
#include "backend/cpu/index_scores.h"

#include "backend/cpu/vnni-inl.h"  // last

#ifdef INDEXSHARE_HAS_VNNI

// g++ 12 says so of _mm512_undefined_epi32() in its own intrinsics (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

namespace indexshare::vnni {

namespace {

constexpr int kHeads = 8;  // of a register tile: kHeads x 2 vectors of keys

struct TwoGroups {
  const std::byte *keys0, *keys1;  // [dim/4][16][4]
};

// Adds R heads' share of the scores of two groups; `number` is the first one's.
template <int R>
void add_heads(const PackedQueries& p, int64_t number, const TwoGroups& keys, __m512& score0,
               __m512& score1) {
  const std::byte* queries = p.queries + number * p.dim;
  const __m512i to_unsigned = _mm512_set1_epi8(static_cast<char>(0x80));
  const __m512 bias = _mm512_set1_ps(kDotBias);
  __m512i acc0[R], acc1[R];
  for (int r = 0; r < R; ++r)
    acc0[r] = acc1[r] =
        _mm512_sub_epi32(_mm512_castps_si512(bias), _mm512_set1_epi32(128 * p.sums[number + r]));
  for (int64_t d = 0; d < p.dim; d += 4) {
    const __m512i k0 = _mm512_xor_si512(_mm512_loadu_si512(keys.keys0 + d * kKeyGroup), to_unsigned);
    const __m512i k1 = _mm512_xor_si512(_mm512_loadu_si512(keys.keys1 + d * kKeyGroup), to_unsigned);
    for (int r = 0; r < R; ++r) {
      int32_t four;
      __builtin_memcpy(&four, queries + r * p.dim + d, sizeof four);
      const __m512i q = _mm512_set1_epi32(four);
      acc0[r] = _mm512_dpbusd_epi32(acc0[r], k0, q);
      acc1[r] = _mm512_dpbusd_epi32(acc1[r], k1, q);
    }
  }
  for (int r = 0; r < R; ++r) {
    const __m512 w = _mm512_set1_ps(p.weights[number + r]);
    score0 = _mm512_fmadd_ps(w, _mm512_max_ps(bias, _mm512_castsi512_ps(acc0[r])), score0);
    score1 = _mm512_fmadd_ps(w, _mm512_max_ps(bias, _mm512_castsi512_ps(acc1[r])), score1);
  }
}

void score_row(const PackedQueries& p, int64_t row, const TwoGroups& keys, __m512& score0, __m512& score1) {
  int64_t h = row * p.num_heads;
  const int64_t end = h + p.num_heads;
  for (; h + kHeads <= end; h += kHeads) add_heads<kHeads>(p, h, keys, score0, score1);
  for (; h + 2 <= end; h += 2) add_heads<2>(p, h, keys, score0, score1);
  for (; h < end; ++h) add_heads<1>(p, h, keys, score0, score1);
}

}  // namespace

void score_chunk(const ScoreArgs& args, const KeyChunk& chunk, const KeyChunk* next) {
  for (int64_t g = 0; g < kChunkGroups; g += 2) {
    const TwoGroups keys{chunk.group[g], chunk.group[g + 1]};
    const __m512 scale0 = _mm512_loadu_ps(args.layout.scales(keys.keys0)),
                 scale1 = _mm512_loadu_ps(args.layout.scales(keys.keys1));
    for (int64_t row = 0; row < args.queries.num_rows; ++row) {
      const FetchPart part(args, next, row, args.queries.num_rows);
      part.fetch(g), part.fetch(g + 1);
      __m512 score0 = _mm512_setzero_ps(), score1 = score0;
      score_row(args.queries, row, keys, score0, score1);
      const __m512 bias = _mm512_set1_ps(args.queries.biases[row]),
                   threshold = _mm512_set1_ps(args.thresholds[row]);
      score0 = _mm512_mul_ps(scale0, _mm512_sub_ps(score0, bias));
      score1 = _mm512_mul_ps(scale1, _mm512_sub_ps(score1, bias));
      float* scores = args.scores + row * kChunkKeys + g * kKeyGroup;
      _mm512_storeu_ps(scores, score0);
      _mm512_storeu_ps(scores + kKeyGroup, score1);
      uint16_t* passes = args.passes + row * kChunkGroups + g;
      passes[0] = _mm512_cmp_ps_mask(score0, threshold, _CMP_NLE_UQ);
      passes[1] = _mm512_cmp_ps_mask(score1, threshold, _CMP_NLE_UQ);
    }
  }
}

}  // namespace indexshare::vnni

#pragma GCC pop_options
#endif
