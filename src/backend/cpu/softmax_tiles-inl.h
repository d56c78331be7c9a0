// SPDX-License-Identifier: Apache-2.0
// For sparse_attention_amx.cpp alone: the softmax of a block of logits. Its weights become left tiles, 16
// heads x 32 keys in bf16.
#pragma once

#include <cstdint>

#include "backend/cpu/sparse_attention_kernel.h"

#include "backend/cpu/tiles-inl.h"  // last, with what builds on it

#include "backend/cpu/cached_row_tiles-inl.h"

#ifdef INDEXSHARE_HAS_TILES

namespace indexshare::amx {

// Largest logit to what is subtracted: exp(-inf - -inf) counts as 0.
inline Vector shift_of(Vector largest) {
  const __mmask16 lowest = _mm512_cmp_ps_mask(largest, _mm512_set1_ps(-__builtin_inff()), _CMP_EQ_OQ);
  return _mm512_mask_mov_ps(largest, lowest, _mm512_setzero_ps());
}

// 16 x 16 dwords, in place.
inline void transpose(__m512i v[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; ++j) {
      v[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + 2 + j]);
      v[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + 2 + j]);
    }
  // v[4b + c], lane l: rows 4b .. 4b+3 of column 4l + c.
  for (int c = 0; c < 4; ++c) {
    t[c] = _mm512_shuffle_i32x4(v[c], v[4 + c], 0x88);
    t[4 + c] = _mm512_shuffle_i32x4(v[c], v[4 + c], 0xdd);
    t[8 + c] = _mm512_shuffle_i32x4(v[8 + c], v[12 + c], 0x88);
    t[12 + c] = _mm512_shuffle_i32x4(v[8 + c], v[12 + c], 0xdd);
  }
  for (int c = 0; c < 4; ++c) {
    v[c] = _mm512_shuffle_i32x4(t[c], t[8 + c], 0x88);
    v[8 + c] = _mm512_shuffle_i32x4(t[c], t[8 + c], 0xdd);
    v[4 + c] = _mm512_shuffle_i32x4(t[4 + c], t[12 + c], 0x88);
    v[12 + c] = _mm512_shuffle_i32x4(t[4 + c], t[12 + c], 0xdd);
  }
}

// 2^x to 2^-18 of it, a fraction of what rounding to bf16 takes. NaN stays NaN.
inline Vector power_of_2(Vector x) {
  constexpr float kPower[] = {1.0000026f, 0.69300383f, 0.24144276f, 0.052011461f, 0.013534168f};
  const Vector r = _mm512_reduce_ps(x, 0x09);  // x - floor(x)
  Vector p = _mm512_set1_ps(kPower[4]);
  for (int i = 3; i >= 0; --i) p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(kPower[i]));
  return _mm512_scalef_ps(p, x);
}

/// Of 16 heads: what weights are relative to, 2^(logit - reference) with logits in powers of 2, and their
/// sum.
struct Softmax {
  Vector reference, sum;
};

struct JoinFactors {
  Vector keep, add;
};

// into = into joined with later, and the factors that the outputs take.
inline JoinFactors join(Softmax& into, const Softmax& later) {
  const Vector reference = _mm512_max_ps(into.reference, later.reference), shift = shift_of(reference);
  const JoinFactors f{power_of_2(_mm512_sub_ps(into.reference, shift)),
                      power_of_2(_mm512_sub_ps(later.reference, shift))};
  into = {reference, _mm512_fmadd_ps(later.sum, f.add, _mm512_mul_ps(into.sum, f.keep))};
  return f;
}

// A later maximum that exceeds the reference by less than this many powers of 2 leaves it in place: f32 and
// bf16 are as precise there, and earlier sums need no new scale.
constexpr float kExcess = 16;

// Weights of 16 heads, whose logits are [keys, 16]: 32 keys a tile. Their sum is that of the rounded ones, as
// the outputs are. Returns what earlier sums are to be multiplied by.
inline Vector weigh(const AttentionShape& shape, const float* logits, int64_t size, bool first,
                    std::byte* weights, Softmax& s) {
  const Vector scale = _mm512_set1_ps(shape.scale * 1.44269504f);  // to powers of 2
  const auto logit = [&](int64_t key) { return _mm512_load_ps(logits + key * 16); };
  Vector largest[4];  // neighbours wait for one another
  for (Vector& v : largest) v = _mm512_set1_ps(-__builtin_inff());
  for (int64_t key = 0; key < size; ++key)
    largest[key % 4] = _mm512_max_ps(largest[key % 4], _mm512_mul_ps(logit(key), scale));
  const Vector reference =
      _mm512_max_ps(_mm512_max_ps(largest[0], largest[1]), _mm512_max_ps(largest[2], largest[3]));
  Vector keep = _mm512_set1_ps(1.0f);
  if (first) {
    s = {reference, _mm512_setzero_ps()};
  } else {
    const __mmask16 far =
        _mm512_cmp_ps_mask(reference, _mm512_add_ps(s.reference, _mm512_set1_ps(kExcess)), _CMP_GT_OQ);
    keep = _mm512_mask_mov_ps(keep, far, power_of_2(_mm512_sub_ps(s.reference, reference)));
    s = {_mm512_mask_mov_ps(s.reference, far, reference), _mm512_mul_ps(s.sum, keep)};
  }
  const Vector shift = shift_of(s.reference);
  const auto weight = [&](int64_t key) {
    if (key >= size) return _mm512_setzero_ps();
    return power_of_2(_mm512_fmsub_ps(logit(key), scale, shift));
  };
  alignas(64) static constexpr uint16_t kInterleave[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                           21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                           11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i interleave = _mm512_load_si512(kInterleave), ones = _mm512_set1_epi32(0x3f803f80);
  __m512i pairs[16];  // [16 pairs of keys][16 heads][2]
  for (int64_t begin = 0; begin < size; begin += kTileKeys) {
    for (int64_t i = 0; i < 16; ++i) {
      const int64_t key = begin + 2 * i;
      const auto rounded = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(weight(key + 1), weight(key)));
      pairs[i] = _mm512_permutexvar_epi16(interleave, rounded);
      s.sum = _mm512_dpbf16_ps(s.sum, reinterpret_cast<__m512bh>(pairs[i]), reinterpret_cast<__m512bh>(ones));
    }
    transpose(pairs);
    for (int64_t i = 0; i < 16; ++i)
      _mm512_storeu_si512(weights + begin / kTileKeys * kTileBytes + 64 * i, pairs[i]);
  }
  return keep;
}
}  // namespace indexshare::amx

#endif
