// SPDX-License-Identifier: Apache-2.0
// One row times int8 weights, as a decode step has it, in vectors: the tile unit would have to be fed bf16
// tiles that are used once, and writing them costs more than the products. Weights become the same bf16
// numbers as in linear_tiles_amx.cpp, and are summed as a tile product sums them (checked by the tests, which
// compare a row with the same row among many): over 32 columns of `in`, the even and the odd ones in two
// chains of fused multiply-adds from zero, then sum += even + odd, subnormal numbers being zero.
#include "backend/cpu/linear_kernels.h"
#include "base/check.h"

#include "backend/cpu/tiles-inl.h"  // last, with what builds on it

#include "backend/cpu/widen_tiles-inl.h"

#ifdef INDEXSHARE_HAS_TILES

#pragma GCC diagnostic ignored \
    "-Wmaybe-uninitialized"  // false alarms of g++ 12's intrinsics (GCC bug 105593)

namespace indexshare::amx {

namespace {

constexpr WeightElement E = WeightElement::int8;
constexpr int64_t kRowFetchAhead = 2048;  // bytes, into the first cache

constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// x rounded to bf16 as by convert_to_bf16(), but kept in f32; zeros up to the next multiple of 64.
void round_row(const float* x, int64_t length, float* rounded) {
  for (int64_t i = 0; i < (length + 63) / 64 * 64; i += 16) {
    const int64_t left = length - i;
    const auto mask = static_cast<__mmask16>((1u << (left < 0 ? 0 : left < 16 ? left : 16)) - 1);
    const __m256i half = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, x + i)));
    _mm512_store_si512(rounded + i, _mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
}

// Codes of 16 columns, cut to bf16 after their scale.
class Weights {
 public:
  explicit Weights(__m512 scale) : at7_(scale), at15_(scale) {}

  // A line holds four columns of `in`.
  [[gnu::always_inline]] void add_line(const std::byte* line, const float* x, __m512& even,
                                       __m512& odd) const {
    const __m512i lanes = _mm512_loadu_si512(line);
    const __m512i left = _mm512_slli_epi32(lanes, 7), right = _mm512_srli_epi32(lanes, 9);
    even = _mm512_fmadd_ps(cut(at7_(left)), _mm512_set1_ps(x[0]), even);
    odd = _mm512_fmadd_ps(cut(at15_(left)), _mm512_set1_ps(x[1]), odd);
    even = _mm512_fmadd_ps(cut(at7_(right)), _mm512_set1_ps(x[2]), even);
    odd = _mm512_fmadd_ps(cut(at15_(right)), _mm512_set1_ps(x[3]), odd);
  }

 private:
  [[gnu::always_inline]] static __m512 cut(__m512i value) {
    const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
    return _mm512_castsi512_ps(_mm512_and_si512(value, high));
  }

  Code<8, 7> at7_;
  Code<8, 15> at15_;
};

struct Sums {
  __m512 left, right;  // of a panel's columns
};

// A panel's. @param group  its first  @param stretch  what it is part of
Sums sum_steps(const std::byte* group, int64_t num_steps, const float* x, const Stretch& stretch) {
  Sums sums{_mm512_setzero_ps(), _mm512_setzero_ps()};
  for (int64_t step = 0; step < num_steps; group += group_bytes(E)) {
    const auto* scales = reinterpret_cast<const float*>(group);
    const Weights left(scales_to_widen(scales)), right(scales_to_widen(scales + 16));
    const std::byte* from = group + group_header_bytes(E);
    for (const int64_t end = smaller(step + steps_per_group(E), num_steps); step < end; ++step) {
      const std::byte* later = stretch.later(from);
      for (int64_t half = 0; half < 2; ++half) {  // 32 columns of `in`, as many as a tile product takes
        __m512 even[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()}, odd[2] = {even[0], even[0]};
#pragma GCC unroll 1
        for (int64_t line = 0; line < 8; ++line, from += 64, later += 64, x += 4) {
          _mm_prefetch(from + kRowFetchAhead, _MM_HINT_T0);
          _mm_prefetch(from + kRowFetchAhead + kTileBytes, _MM_HINT_T0);
          _mm_prefetch(later, _MM_HINT_T1);
          _mm_prefetch(later + kTileBytes, _MM_HINT_T1);
          left.add_line(from, x, even[0], odd[0]);
          right.add_line(from + kTileBytes, x, even[1], odd[1]);
        }
        sums.left = _mm512_add_ps(sums.left, _mm512_add_ps(even[0], odd[0]));
        sums.right = _mm512_add_ps(sums.right, _mm512_add_ps(even[1], odd[1]));
      }
      from += kTileBytes;
    }
  }
  return sums;
}

}  // namespace

void multiply_row(const ProductShare& share) {
  const Product& product = *share.product;
  const PackedMatrix& weight = *product.weight;
  const FlushSubnormals flush;
  auto* x = reinterpret_cast<float*>(share.scratch);
  const HeldRows row{&product, share.row_begin, 1, 0};
  if (!same_rows(*share.held, row)) {
    round_row(product.x_row(share.row_begin), weight.in_dim(), x);
    *share.held = row;
  }
  const auto panel_bytes = static_cast<int64_t>(weight.panel_bytes());
  const std::byte* panels = weight.panels();
  const Stretch stretch{panels + share.panel_end * panel_bytes, share.next};
  for (int64_t panel = share.panel_begin; panel < share.panel_end; ++panel) {
    const Sums y = sum_steps(panels + panel * panel_bytes, weight.num_steps(), x, stretch);
    const int64_t first = panel * kPanelWidth;
    const auto mask =
        static_cast<uint32_t>((uint64_t{1} << smaller(weight.out_dim() - first, kPanelWidth)) - 1);
    float* to = product.y + share.row_begin * product.y_stride + first;
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>(mask), y.left);
    _mm512_mask_storeu_ps(to + 16, static_cast<__mmask16>(mask >> 16), y.right);
  }
}

}  // namespace indexshare::amx

#pragma GCC pop_options

#else

namespace indexshare::amx {
void multiply_row(const ProductShare&) { ENSURE(false, "this build has no tiles"); }
}  // namespace indexshare::amx

#endif
