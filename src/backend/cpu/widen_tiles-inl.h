// SPDX-License-Identifier: Apache-2.0
// For linear_tiles_amx.cpp, and for linear_row_amx.cpp, which takes Code and scales_to_widen() alone: int8,
// int4 and f8 weights become bf16 tiles, each weight code x scale. At few rows this is all the work there is
// beside reading, so every instruction counts (a line of 64 int8 codes takes 12):
//   - A code becomes f32 where it lies: its bits, the top one flipped, are mantissa bits beside a one of 2^15
//     and one fused multiply-add takes away what is not the code, and scales. Scales keep 10 bits, so that
//     the constant times the scale is exact, and zero codes are zero.
//   - Values are cut to bf16, which draws them to zero by up to 2^-7; kCutMean in the scale undoes that in
//     the mean, and the error that is left is no larger than that of rounding.
#pragma once

#include <cstdint>

#include "backend/cpu/packed_matrix.h"

#include "backend/cpu/tiles-inl.h"  // last

#ifdef INDEXSHARE_HAS_TILES

namespace indexshare::amx {

constexpr int64_t kFetchAhead = 1024;          // bytes, into the first cache
constexpr int64_t kWideStep = 2 * kTileBytes;  // 32 columns of `in` as bf16

/// Widened in one go: 16 columns x 64 of `in` of integers, 32 x 32 of f8.
constexpr int64_t pieces_per_step(WeightElement e) { return is_integer(e) ? 2 : 1; }  // of a step as stored
constexpr int64_t wide_steps(WeightElement e) { return step_columns(e) / 32; }        // the same as bf16

// What cutting takes from a number in the mean: half of bf16's last place, 2^-8 / mantissa, for mantissas
// evenly spread in the logarithm, 2^-8 x 1/(2 ln 2).
constexpr float kCutMean = 0.7213f / 256;

// Powers of two lose nothing when cut: bf16 holds every code.
inline __m512 scales_to_widen(const float* scales) {
  const __m512 scale = _mm512_loadu_ps(scales);
  const __mmask16 inexact = _mm512_test_epi32_mask(_mm512_castps_si512(scale), _mm512_set1_epi32(0x7fffff));
  const __m512 raised = _mm512_mask_mul_ps(scale, inexact, scale, _mm512_set1_ps(1 + kCutMean));
  const __m512i rounded = _mm512_add_epi32(_mm512_castps_si512(raised), _mm512_set1_epi32(0x2000));
  return _mm512_castsi512_ps(_mm512_and_si512(rounded, _mm512_set1_epi32(~0x3fff)));
}

// Codes of kBits bits that lie at bit kAt of each lane, to code x scale.
template <int kBits, int kAt>
class Code {
 public:
  explicit Code(__m512 scale) {
    constexpr float kUnit = 256.0f / (1 << kAt);  // of the mantissa of 2^15: bit 8 is 1
    constexpr float kConstant = 32768 + (1 << (kBits - 1)) / kUnit;
    scale_ = _mm512_mul_ps(scale, _mm512_set1_ps(kUnit));
    constant_ = _mm512_mul_ps(scale_, _mm512_set1_ps(-kConstant));
  }

  [[gnu::always_inline]] __m512i operator()(__m512i lanes) const {
    const __m512i mask = _mm512_set1_epi32(((1 << kBits) - 1) << kAt);
    const __m512i flip = _mm512_set1_epi32(0x47000000 | 1 << (kAt + kBits - 1));
    const __m512i number = _mm512_ternarylogic_epi32(lanes, mask, flip, 0x6a);  // (lanes & mask) ^ flip
    return _mm512_castps_si512(_mm512_fmadd_ps(_mm512_castsi512_ps(number), scale_, constant_));
  }

 private:
  __m512 scale_, constant_;
};

// Even and odd elements of `in`, f32 cut to bf16, side by side.
[[gnu::always_inline]] inline void store_pairs(__m512i even, __m512i odd, std::byte* to) {
  const __m512i high_half =
      _mm512_broadcast_i32x4(_mm_setr_epi8(2, 3, 0, 0, 6, 7, 0, 0, 10, 11, 0, 0, 14, 15, 0, 0));
  _mm512_store_si512(to, _mm512_mask_shuffle_epi8(odd, 0x3333333333333333, even, high_half));
}

// One piece. @param from the step as stored  @param scales of the panel  @param to its first step as bf16
// @param later  as many bytes as the piece has, read some pieces later: fetched into the second cache
inline void widen_int8(const std::byte* from, const float* scales, int64_t tile, std::byte* to,
                       const std::byte* later) {
  const __m512 scale = scales_to_widen(scales + tile * 16);
  const Code<8, 7> at7(scale);
  const Code<8, 15> at15(scale);
  for (int64_t line = 0; line < 16; ++line) {
    const std::byte* codes = from + tile * kTileBytes + line * 64;
    _mm_prefetch(codes + kFetchAhead, _MM_HINT_T0);
    _mm_prefetch(later + line * 64, _MM_HINT_T1);
    const __m512i lanes = _mm512_loadu_si512(codes);
    const __m512i left = _mm512_slli_epi32(lanes, 7), right = _mm512_srli_epi32(lanes, 9);
    std::byte* rows = to + line / 8 * kWideStep + tile * kTileBytes + line % 8 * 128;
    store_pairs(at7(left), at15(left), rows);
    store_pairs(at7(right), at15(right), rows + 64);
  }
}

inline void widen_int4(const std::byte* from, const float* scales, int64_t tile, std::byte* to,
                       const std::byte* later) {
  const __m512 scale = scales_to_widen(scales + tile * 16);
  const Code<4, 7> at7(scale);
  const Code<4, 11> at11(scale);
  const Code<4, 15> at15(scale);
  const Code<4, 19> at19(scale);
  for (int64_t line = 0; line < 8; ++line) {
    const std::byte* codes = from + tile * kTileBytes / 2 + line * 64;
    _mm_prefetch(codes + kFetchAhead, _MM_HINT_T0);
    _mm_prefetch(later + line * 64, _MM_HINT_T1);
    const __m512i lanes = _mm512_loadu_si512(codes);
    const __m512i left = _mm512_slli_epi32(lanes, 7), right = _mm512_srli_epi32(lanes, 9);
    std::byte* rows = to + tile * kTileBytes + line * 128;
    store_pairs(at7(left), at15(left), rows);
    store_pairs(at7(right), at15(right), rows + 64);
    store_pairs(at11(left), at19(left), rows + kWideStep);
    store_pairs(at11(right), at19(right), rows + kWideStep + 64);
  }
}

struct alignas(64) F8Table {
  uint8_t low[128], high[128];  // bytes of the bf16 that a code without sign stands for
};

constexpr F8Table make_f8_table() {
  F8Table table{};
  for (int code = 0; code < 128; ++code) {
    int exponent = code >> 3, mantissa = code & 7;
    if (exponent == 0 && mantissa > 0) {  // subnormals have a place among bf16's normal numbers
      exponent = 1;
      while (mantissa < 8) mantissa *= 2, --exponent;
      mantissa -= 8;
    } else if (exponent == 0) {
      exponent = -120;
    }
    int bits = (exponent + 120) << 7 | mantissa << 4;
    if (code == 0x7f) bits = 0x7fc0;
    table.low[code] = static_cast<uint8_t>(bits);
    table.high[code] = static_cast<uint8_t>(bits >> 8);
  }
  return table;
}

alignas(64) constexpr F8Table kF8Table = make_f8_table();

// Pairs of bf16 times the scales of their columns.
[[gnu::always_inline]] inline void store_scaled(__m512i pairs, __m512 scale, std::byte* to) {
  const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
  const __m512 even = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)), scale);
  const __m512 odd = _mm512_mul_ps(_mm512_castsi512_ps(_mm512_and_si512(pairs, high)), scale);
  store_pairs(_mm512_castps_si512(even), _mm512_castps_si512(odd), to);
}

inline void widen_f8(const std::byte* from, const float* scales, std::byte* to, const std::byte* later) {
  const __m512i low0 = _mm512_load_si512(kF8Table.low), low1 = _mm512_load_si512(kF8Table.low + 64);
  const __m512i high0 = _mm512_load_si512(kF8Table.high), high1 = _mm512_load_si512(kF8Table.high + 64);
  const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
  const __m512 scale_of_tile[2] = {scales_to_widen(scales), scales_to_widen(scales + 16)};
  for (int64_t i = 0; i < 1024; i += 64) {  // two rows of a tile
    _mm_prefetch(from + i + kFetchAhead, _MM_HINT_T0);
    _mm_prefetch(later + i, _MM_HINT_T1);
    const __m512 scale = scale_of_tile[i / 512];
    const __m512i codes = _mm512_loadu_si512(from + i);
    const __m512i low = _mm512_permutex2var_epi8(low0, codes, low1);
    const __m512i high = _mm512_ternarylogic_epi32(sign, codes, _mm512_permutex2var_epi8(high0, codes, high1),
                                                   0xea);  // (sign & codes) | high
    store_scaled(_mm512_unpacklo_epi8(low, high), scale, to + 2 * i);
    store_scaled(_mm512_unpackhi_epi8(low, high), scale, to + 2 * i + 64);
  }
}

/// @param piece of the step  @param to the step's place  @param later see widen_int8
template <WeightElement E>
inline void widen_piece(const std::byte* from, const float* scales, int64_t piece, std::byte* to,
                        const std::byte* later) {
  if constexpr (E == WeightElement::int8) widen_int8(from, scales, piece, to, later);
  if constexpr (E == WeightElement::int4) widen_int4(from, scales, piece, to, later);
  if constexpr (E == WeightElement::f8_e4m3) widen_f8(from, scales, to, later);
}

}  // namespace indexshare::amx

#endif
