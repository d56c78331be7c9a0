// SPDX-License-Identifier: Apache-2.0
// Products on tiles: C = A B for two tiles of A (32 rows, or the high and low parts of 16) and the two tiles
// of a panel's 32 columns. C holds one group of columns of `in`; then vectors add it to the row's sums:
//   integers   sum = fma(float(256 high + low), x_scale * w_scale, sum)    (linear_integer.cpp's bits)
//   f8         sum = fma(high + low, w_scale, sum)
//   bf16       sum = sum + (high + low)
// The vector work of a group is issued behind the tile products of the next one, so that both units are busy.
// Blocking: A for all rows of the share and up to kHeldTiles tiles stays in the second cache while panels
// pass, a panel's chunk of 8 steps (16 KiB) in the first while kBlockTiles tiles of A pass.
#include <cstring>

#include "backend/cpu/linear_kernels.h"
#include "base/check.h"

#include "backend/cpu/tiles-inl.h"  // last

#ifdef INDEXSHARE_HAS_TILES

#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // false alarms of g++ 12's intrinsics (GCC bug 105593)

namespace indexshare::amx {

namespace {

constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t larger(int64_t a, int64_t b) { return a < b ? b : a; }

constexpr int64_t kHeldTiles = 1024;  // 1 MiB of A
constexpr int64_t kBlockTiles = 8;
constexpr int64_t kChunkSteps = 8;
constexpr int64_t kWideStep = 2048;  // bytes of a step as the tile products take it

struct alignas(64) Dots {
  float values[2][kTileRows][kPanelWidth];  // [tile of A], f32 or i32
};

struct alignas(64) Scratch {
  float sums[kBlockTiles * kTileRows][kPanelWidth];
  Dots dots[2];
  std::byte widened[kHeldTiles / kBlockTiles * kWideStep];  // f8, int4: a panel's held steps, or one chunk
};
static_assert(sizeof(Scratch) <= kShareScratchBytes);

// What the vectors have to do about a group once its tile products are done.
struct Pending {
  const Dots* dots = nullptr;
  float* sums;           // [num_rows, 32]
  int64_t num_rows;      // <= 32
  const float* x_scale;  // of the first 16 rows; `scale_stride` further of the others
  int64_t scale_stride;
  const float* w_scale;  // [32]
};

template <WeightElement E, int kParts>
inline void add_row(const float (&high)[kPanelWidth], const float (&low)[kPanelWidth], float x_scale,
                    __m512 w0, __m512 w1, float* sums) {
  for (int half = 0; half < 2; ++half) {
    const float* h = high + half * 16;
    const float* l = low + half * 16;
    const __m512 w = half ? w1 : w0;
    const __m512 sum = _mm512_load_ps(sums + half * 16);
    __m512 result;
    if constexpr (is_integer(E)) {
      __m512i dot = _mm512_load_si512(h);
      if constexpr (kParts == 2) dot = _mm512_add_epi32(_mm512_slli_epi32(dot, 8), _mm512_load_si512(l));
      result = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(_mm512_set1_ps(x_scale), w), sum);
    } else {
      __m512 dot = _mm512_load_ps(h);
      if constexpr (kParts == 2) dot = _mm512_add_ps(dot, _mm512_load_ps(l));
      result = E == WeightElement::bf16 ? _mm512_add_ps(sum, dot) : _mm512_fmadd_ps(dot, w, sum);
    }
    _mm512_store_ps(sums + half * 16, result);
  }
}

template <WeightElement E, int kParts>
inline void finish(const Pending& p) {
  if (!p.dots) return;
  __m512 w0 = _mm512_setzero_ps(), w1 = w0;
  if constexpr (E != WeightElement::bf16)
    w0 = _mm512_loadu_ps(p.w_scale), w1 = _mm512_loadu_ps(p.w_scale + 16);
  for (int64_t r = 0; r < p.num_rows; ++r) {
    const int64_t tile = r / kTileRows, row = r % kTileRows;
    const float x_scale = is_integer(E) ? p.x_scale[tile * p.scale_stride + row] : 1.0f;
    add_row<E, kParts>(p.dots->values[tile][row], p.dots->values[1][row], x_scale, w0, w1,
                       p.sums + r * kPanelWidth);
  }
}

#define INDEXSHARE_TILE_PRODUCTS(first, second, a) \
  if constexpr (!is_integer(E)) {                  \
    _tile_dpbf16ps(first, a, 6);                   \
    _tile_dpbf16ps(second, a, 7);                  \
  } else if constexpr (kParts == 2 && a == 5) {    \
    _tile_dpbusd(first, a, 6);                     \
    _tile_dpbusd(second, a, 7);                    \
  } else {                                         \
    _tile_dpbssd(first, a, 6);                     \
    _tile_dpbssd(second, a, 7);                    \
  }

// @param a  first step of the first tile of A, the second tile `a_stride` bytes further
template <WeightElement E, int kParts, bool kBoth>
inline void multiply_group(const std::byte* a, int64_t a_stride, const std::byte* b, int64_t num_steps,
                           Dots& dots) {
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (kBoth) {
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t s = 0; s < num_steps; ++s) {
    _tile_loadd(4, a + s * kTileBytes, 64);
    _tile_loadd(6, b + s * kWideStep, 64);
    _tile_loadd(7, b + s * kWideStep + kTileBytes, 64);
    INDEXSHARE_TILE_PRODUCTS(0, 1, 4)
    if constexpr (kBoth) {
      _tile_loadd(5, a + a_stride + s * kTileBytes, 64);
      INDEXSHARE_TILE_PRODUCTS(2, 3, 5)
    }
  }
  constexpr int64_t kStride = kPanelWidth * 4;
  _tile_stored(0, dots.values[0][0], kStride);
  _tile_stored(1, dots.values[0][0] + 16, kStride);
  if constexpr (kBoth) {
    _tile_stored(2, dots.values[1][0], kStride);
    _tile_stored(3, dots.values[1][0] + 16, kStride);
  }
}

#undef INDEXSHARE_TILE_PRODUCTS

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

inline void widen_f8_step(const std::byte* from, std::byte* to) {
  const __m512i low0 = _mm512_load_si512(kF8Table.low), low1 = _mm512_load_si512(kF8Table.low + 64);
  const __m512i high0 = _mm512_load_si512(kF8Table.high), high1 = _mm512_load_si512(kF8Table.high + 64);
  const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
  for (int64_t i = 0; i < 1024; i += 64) {  // two rows of a tile
    const __m512i codes = _mm512_loadu_si512(from + i);
    const __m512i low = _mm512_permutex2var_epi8(low0, codes, low1);
    const __m512i high =
        _mm512_or_si512(_mm512_permutex2var_epi8(high0, codes, high1), _mm512_and_si512(codes, sign));
    _mm512_store_si512(to + 2 * i, _mm512_unpacklo_epi8(low, high));
    _mm512_store_si512(to + 2 * i + 64, _mm512_unpackhi_epi8(low, high));
  }
}

inline void widen_int4_step(const std::byte* from, std::byte* to) {
  const __m512i codes =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1));
  const __m512i low_half = _mm512_set1_epi8(15);
  for (int64_t tile = 0; tile < 2; ++tile)
    for (int64_t i = 0; i < 512; i += 64) {
      const __m512i pairs = _mm512_loadu_si512(from + tile * 512 + i);
      const __m512i low = _mm512_and_si512(pairs, low_half);
      const __m512i high = _mm512_and_si512(_mm512_srli_epi16(pairs, 4), low_half);
      std::byte* rows = to + tile * kTileBytes + i;
      _mm512_store_si512(rows, _mm512_shuffle_epi8(codes, low));
      _mm512_store_si512(rows + 512, _mm512_shuffle_epi8(codes, high));
    }
}

template <WeightElement E>
constexpr bool kWiden = E == WeightElement::f8_e4m3 || E == WeightElement::int4;

template <WeightElement E, int kParts>
class Run {
 public:
  explicit Run(const ProductShare& share)
      : share_(share),
        product_(*share.product),
        weight_(*product_.weight),
        layout_(weight_, true),
        scratch_(*reinterpret_cast<Scratch*>(share.scratch)),
        num_steps_(weight_.num_steps()),
        a_stride_(num_steps_ * kTileBytes),
        num_tiles_(ActivationLayout::num_blocks(share.num_rows) * kParts) {
    const int64_t block = share.row_begin / kTileRows;
    a_ = product_.converted.codes + static_cast<size_t>(block) * layout_.block_bytes();
    x_scales_ = product_.converted.scales + block * layout_.block_scales();
  }

  void multiply() {
    const int64_t depth = larger(kHeldTiles / num_tiles_ / kChunkSteps * kChunkSteps, kChunkSteps);
    for (int64_t step = 0; step < num_steps_; step += depth) {
      const int64_t end = smaller(step + depth, num_steps_);
      for (int64_t panel = share_.panel_begin; panel < share_.panel_end; ++panel)
        multiply_panel(panel, step, end);
    }
  }

 private:
  static constexpr int64_t kRowsOfPair = kParts == 2 ? kTileRows : 2 * kTileRows;
  static constexpr int64_t kBlockRows = kBlockTiles / 2 * kRowsOfPair;

  // Steps [step_begin, step_end) of all rows.
  void multiply_panel(int64_t panel, int64_t step_begin, int64_t step_end) {
    const std::byte* weights = weight_.panels() + static_cast<size_t>(panel) * weight_.panel_bytes();
    for (int64_t row = 0; row < share_.num_rows; row += kBlockRows) {
      const int64_t num_rows = smaller(kBlockRows, share_.num_rows - row);
      read_sums(panel, row, num_rows, step_begin == 0);
      for (int64_t step = step_begin; step < step_end; step += kChunkSteps) {
        const int64_t end = smaller(step + kChunkSteps, step_end);
        multiply_chunk(weights, wide_chunk(weights, row, step_begin, step, end), row, num_rows, step, end);
      }
      finish_pending({});
      write_sums(panel, row, num_rows);
    }
  }

  const std::byte* group_of(const std::byte* weights, int64_t step) const {
    return weights + step / steps_per_group(E) * group_bytes(E);
  }

  // The chunk's steps ready for tiles, where they are widened; once for all rows.
  const std::byte* wide_chunk(const std::byte* weights, int64_t row, int64_t step_begin, int64_t begin,
                              int64_t end) {
    if constexpr (!kWiden<E>) return nullptr;
    const bool one_block = share_.num_rows <= kBlockRows;
    std::byte* wide = scratch_.widened + (one_block ? 0 : (begin - step_begin) * kWideStep);
    if (row > 0) return wide;
    for (int64_t step = begin; step < end; ++step) {
      const std::byte* from =
          group_of(weights, step) + group_header_bytes(E) + step % steps_per_group(E) * step_bytes(E);
      std::byte* to = wide + (step - begin) * kWideStep;
      E == WeightElement::f8_e4m3 ? widen_f8_step(from, to) : widen_int4_step(from, to);
    }
    asm volatile("" : : : "memory");  // tile loads do not tell the compiler that they read
    return wide;
  }

  void multiply_chunk(const std::byte* weights, const std::byte* wide, int64_t row, int64_t num_rows,
                      int64_t begin, int64_t end) {
    for (int64_t r = 0; r < num_rows; r += kRowsOfPair) {
      const int64_t block = (row + r) / kTileRows, rows = smaller(kRowsOfPair, num_rows - r);
      for (int64_t step = begin; step < end; step += steps_per_group(E)) {
        const std::byte* group = group_of(weights, step);
        const std::byte* b = kWiden<E> ? wide + (step - begin) * kWideStep : group + group_header_bytes(E);
        const std::byte* a = a_ + block * kParts * a_stride_ + step * kTileBytes;
        const int64_t steps = smaller(steps_per_group(E), end - step);
        Dots& dots = scratch_.dots[current_];
        if (kParts == 2 || rows > kTileRows) {
          multiply_group<E, kParts, true>(a, a_stride_, b, steps, dots);
        } else {
          multiply_group<E, kParts, false>(a, a_stride_, b, steps, dots);
        }
        current_ ^= 1;
        finish_pending({&dots, scratch_.sums[r], rows,
                        x_scales_ + block * layout_.block_scales() + step / steps_per_group(E) * kTileRows,
                        layout_.block_scales(), reinterpret_cast<const float*>(group)});
      }
    }
  }

  void finish_pending(const Pending& next) {
    finish<E, kParts>(pending_);
    pending_ = next;
  }

  int64_t columns_of(int64_t panel) const {
    return smaller(kPanelWidth, weight_.out_dim() - panel * kPanelWidth);
  }
  float* y_of(int64_t panel, int64_t row) const {
    return product_.y + (share_.row_begin + row) * product_.y_stride + panel * kPanelWidth;
  }

  void read_sums(int64_t panel, int64_t row, int64_t num_rows, bool first) {
    if (first) {
      std::memset(scratch_.sums, 0, static_cast<size_t>(num_rows) * sizeof scratch_.sums[0]);
      return;
    }
    const size_t bytes = static_cast<size_t>(columns_of(panel)) * sizeof(float);
    for (int64_t r = 0; r < num_rows; ++r) std::memcpy(scratch_.sums[r], y_of(panel, row + r), bytes);
  }

  void write_sums(int64_t panel, int64_t row, int64_t num_rows) {
    const size_t bytes = static_cast<size_t>(columns_of(panel)) * sizeof(float);
    for (int64_t r = 0; r < num_rows; ++r) std::memcpy(y_of(panel, row + r), scratch_.sums[r], bytes);
  }

  const ProductShare& share_;
  const Product& product_;
  const PackedMatrix& weight_;
  const ActivationLayout layout_;
  Scratch& scratch_;
  const int64_t num_steps_, a_stride_, num_tiles_;
  const std::byte* a_;
  const float* x_scales_;
  Pending pending_;
  int current_ = 0;
};

template <WeightElement E>
void multiply_share_of(const ProductShare& share) {
  if (share.product->weight->activation_parts() == 1) {
    Run<E, 1>(share).multiply();
  } else {
    Run<E, 2>(share).multiply();
  }
}

}  // namespace

void multiply_share(const ProductShare& share) {
  const TileScope tiles;
  switch (share.product->weight->element()) {
    case WeightElement::bf16:
      return multiply_share_of<WeightElement::bf16>(share);
    case WeightElement::f8_e4m3:
      return multiply_share_of<WeightElement::f8_e4m3>(share);
    case WeightElement::int8:
      return multiply_share_of<WeightElement::int8>(share);
    case WeightElement::int4:
      return multiply_share_of<WeightElement::int4>(share);
    default:
      return;  // never in tiles
  }
}

}  // namespace indexshare::amx

#pragma GCC pop_options

#else

namespace indexshare::amx {
void multiply_share(const ProductShare&) { ENSURE(false, "this build has no tiles"); }
}  // namespace indexshare::amx

#endif
