// SPDX-License-Identifier: Apache-2.0
// Lists the numbers of a chunk's keys that pass, one byte each, by compressing 64 at a time, and copies by
// that list. Going from bit to bit instead would wait for each, and mispredict the end of each word. (Vector
// gathers take three times as long as the plain loads.)
#include "backend/cpu/candidates.h"

#include "backend/cpu/tiles-inl.h"  // last

#ifdef INDEXSHARE_HAS_TILES

#pragma GCC target("avx512vbmi2")  // asked for together with tiles

// g++ 12 says so of _mm512_undefined_epi32() in its own intrinsics (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

namespace indexshare::amx {

void append_passing(const float* scores, const int32_t* positions, const ChunkBits& passing, Candidates& c) {
  static_assert(kChunkKeys == 256, "a key's number is a byte");
  constexpr int64_t kTogether = 8;  // copied without asking whether there are as many
  alignas(64) static constexpr uint8_t kNumbers[64] = {
      0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
      22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43,
      44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63};
  uint8_t keys[kChunkKeys + 64];
  __m512i numbers = _mm512_load_si512(kNumbers);
  int64_t count = 0;
  for (const uint64_t bits : passing) {
    _mm512_storeu_si512(keys + count, _mm512_maskz_compress_epi8(bits, numbers));
    count += __builtin_popcountll(bits);
    numbers = _mm512_add_epi8(numbers, _mm512_set1_epi8(64));
  }
  float* to_scores = c.scores + c.count;
  int32_t* to_positions = c.positions + c.count;
  for (int64_t i = 0; i < count; i += kTogether)
    for (int64_t k = i; k < i + kTogether; ++k) {
      to_scores[k] = scores[keys[k]];
      to_positions[k] = positions[keys[k]];
    }
  c.count += count;
}

}  // namespace indexshare::amx

#pragma GCC pop_options
#endif
