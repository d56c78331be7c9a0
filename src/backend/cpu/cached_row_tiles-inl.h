// SPDX-License-Identifier: Apache-2.0
// For sparse_attention_amx.cpp alone: cached rows (latents.h), in bf16 or int8, become bf16 tiles: 16 rows as
// a left factor, 32 rows with neighbours side by side as a right one.
#pragma once

#include <cstdint>

#include "backend/cpu/sparse_attention_kernel.h"

#include "backend/cpu/tiles-inl.h"  // last

#ifdef INDEXSHARE_HAS_TILES

// g++ 12 takes the deliberately undefined operands inside many AVX-512 intrinsics for mistakes (GCC bug
// 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

namespace indexshare::amx {

using Vector = __m512;

constexpr int64_t kTileKeys = 32;  // of a tile of weights, and of pairs

inline __mmask32 first_of_32(int64_t count) {
  return count >= 32 ? ~__mmask32{0} : (__mmask32{1} << (count > 0 ? count : 0)) - 1;
}

// 32 codes * an f32 scale, rounded once
inline __m512i dequantise(const std::byte* codes, const std::byte* scale) {
  const auto* from = reinterpret_cast<const __m128i*>(codes);
  float value;
  __builtin_memcpy(&value, scale, sizeof value);
  const Vector factor = _mm512_set1_ps(value);
  const Vector low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from)));
  const Vector high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from + 1)));
  return reinterpret_cast<__m512i>(
      _mm512_cvtne2ps_pbh(_mm512_mul_ps(high, factor), _mm512_mul_ps(low, factor)));
}

// How dims [d, d + 32) of a cached row become bf16, zero beyond the row's last. kFetchAhead: whether the next
// block's rows are fetched meanwhile. Vectors bound int8, and memory has time for it; gathering bf16 keeps
// the way between the caches busy, and fetching costs about what it saves (measured: at 32K keys it is 10 %
// faster, at 8K and 128K 5 to 10 % slower).
template <bool kWhole>  // rows are whole tiles of 32 dims
struct Bf16Rows {
  static constexpr bool kFetchAhead = false;
  static __m512i load(const AttentionShape& shape, const std::byte* row, int64_t d) {
    if constexpr (kWhole) return _mm512_loadu_si512(row + 2 * d);
    return _mm512_maskz_loadu_epi16(first_of_32(shape.dim - d), row + 2 * d);
  }
};

// In int8 rows codes come first, then the tail.
struct Int8Rows {
  static constexpr bool kFetchAhead = true;
  static __m512i load(const AttentionShape& shape, const std::byte* row, int64_t d) {
    const LatentLayout& layout = shape.rows;
    const int64_t codes = layout.num_codes - d;
    const std::byte* scale = row + layout.scales_at + d / kLatentScaleGroup * 4;
    if (codes >= 32) return dequantise(row + d, scale);
    // The tail's elements land where their dims are: the address may lie before them, what is read does not.
    const std::byte* tail = row + layout.tail_at - 2 * codes;
    if (codes <= 0) return _mm512_maskz_loadu_epi16(first_of_32(shape.dim - d), tail);
    alignas(32) std::byte some[32] = {};
    for (int64_t i = 0; i < codes; ++i) some[i] = row[d + i];
    return _mm512_mask_loadu_epi16(dequantise(some, scale), first_of_32(shape.dim - d) & ~first_of_32(codes),
                                   tail);
  }
};

// Dims [d, d + 32) of 16 rows: a left tile.
template <class Rows>
void gather_rows(const AttentionShape& shape, const std::byte* const* rows, int64_t d, std::byte* to) {
#pragma GCC unroll 16
  for (int64_t i = 0; i < 16; ++i) _mm512_store_si512(to + 64 * i, Rows::load(shape, rows[i], d));
}

// Dims [d, d + 32) of some pairs of rows: rows of two right tiles. unpack works within 128 bits: the first
// tile gets dims 0-3, 8-11, 16-19, 24-27 and the second the others; natural_order() undoes that.
template <class Rows, int kCount>
void gather_pairs(const AttentionShape& shape, const std::byte* const* rows, int64_t d, std::byte* to) {
#pragma GCC unroll 16
  for (int64_t i = 0; i < kCount; ++i) {
    const __m512i a = Rows::load(shape, rows[2 * i], d), b = Rows::load(shape, rows[2 * i + 1], d);
    _mm512_store_si512(to + 64 * i, _mm512_unpacklo_epi16(a, b));
    _mm512_store_si512(to + 64 * i + kTileBytes, _mm512_unpackhi_epi16(a, b));
  }
}

// The 32 dims that gather_pairs() spread over two tiles.
inline void natural_order(Vector& low, Vector& high) {
  const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i second = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
  const Vector x = low, y = high;
  low = _mm512_permutex2var_ps(x, first, y);
  high = _mm512_permutex2var_ps(x, second, y);
}
}  // namespace indexshare::amx

#endif
