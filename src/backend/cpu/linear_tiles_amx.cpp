// SPDX-License-Identifier: Apache-2.0
// Products on tiles: C = A B for two tiles of A (32 rows, or the high and low parts of 16) and the two tiles
// of a panel's 32 columns. C holds one group of columns of `in`; then vectors add it to the row's sums:
//   integers   sum = fma(float(256 high + low), x_scale * w_scale, sum)    (linear_integer.cpp's bits)
//   f8         sum = fma(high + low, w_scale, sum)
// (bf16 weights have no groups: bf16_tiles-inl.h.)
// Groups go through a pipeline, so that both units are busy: while the tile products of one run, its
// predecessor moves from C to memory, each tile just before it is needed again (otherwise products wait for
// the store), and vectors finish the one before that. Blocking: A for all rows of the share and up to
// kHeldTiles tiles stays in the second cache while panels pass, a panel's chunk of 4 steps (8 KiB) in the
// first while kBlockTiles tiles of A pass.
#include <cstring>

#include "backend/cpu/linear_kernels.h"
#include "base/check.h"

#include "backend/cpu/tiles-inl.h"  // last, with what builds on it

#include "backend/cpu/bf16_tiles-inl.h"

#ifdef INDEXSHARE_HAS_TILES

#pragma GCC diagnostic ignored \
    "-Wmaybe-uninitialized"  // false alarms of g++ 12's intrinsics (GCC bug 105593)

namespace indexshare::amx {

namespace {

constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
constexpr int64_t larger(int64_t a, int64_t b) { return a < b ? b : a; }

constexpr int64_t kHeldTiles = 1024;  // 1 MiB of A
constexpr int64_t kBlockTiles = 4;
constexpr int64_t kChunkSteps = 4;
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

// What the vectors have to do about a group once its tile products are done. Sums start at zero or in y and
// end in y, where a panel has all its columns.
struct Pending {
  const float* from = nullptr;  // [num_rows, 32] sums so far
  float* to = nullptr;          // [num_rows, 32] sums with this group
  int64_t from_stride = 0, to_stride = 0;
  int64_t num_rows = 0;             // <= 32
  const float* x_scales = nullptr;  // of the rows of the first tile of A
  int64_t scale_stride = 0;         // to those of the second
  const float* w_scales = nullptr;  // [32]
};

template <WeightElement E, int kParts>
inline void add_vector(const float* high, const float* low, float x_scale, const float* w_scale,
                       const float* from, float* to) {
  const __m512 sum = _mm512_loadu_ps(from);
  __m512 result;
  if constexpr (is_integer(E)) {
    __m512i dot = _mm512_load_si512(high);
    if constexpr (kParts == 2) dot = _mm512_add_epi32(_mm512_slli_epi32(dot, 8), _mm512_load_si512(low));
    const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(x_scale), _mm512_loadu_ps(w_scale));
    result = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), scale, sum);
  } else {
    __m512 dot = _mm512_load_ps(high);
    if constexpr (kParts == 2) dot = _mm512_add_ps(dot, _mm512_load_ps(low));
    result = _mm512_fmadd_ps(dot, _mm512_loadu_ps(w_scale), sum);
  }
  _mm512_storeu_ps(to, result);
}

template <WeightElement E, int kParts>
class Finish {
 public:
  static constexpr int64_t kRowsOfPair = kParts == 2 ? kTileRows : 2 * kTileRows;

  // Field by field: a wider copy would wait for the narrow stores that made `p`, and all products before
  // them.
  Finish(const Pending& p, const Dots& dots)
      : from_(p.from),
        to_(p.to),
        from_stride_(p.from_stride),
        to_stride_(p.to_stride),
        num_rows_(p.num_rows),
        x_scales_{p.x_scales, p.x_scales + p.scale_stride},
        w_scales_(p.w_scales),
        dots_(dots) {}

  [[gnu::always_inline]] void next_row() {
    const int64_t tile = row_ / kTileRows, r = row_ % kTileRows;
    const float x_scale = is_integer(E) ? x_scales_[tile][r] : 1.0f;
    add_vector<E, kParts>(dots_.values[tile][r], dots_.values[1][r], x_scale, w_scales_, from_, to_);
    add_vector<E, kParts>(dots_.values[tile][r] + 16, dots_.values[1][r] + 16, x_scale, w_scales_ + 16,
                          from_ + 16, to_ + 16);
    from_ += from_stride_;
    to_ += to_stride_;
    ++row_;
  }

  // A piece for each tile product of the next group: in larger portions vector work would hold products up
  // instead of filling the time that they take.
  [[gnu::always_inline]] void operator()() {
    for (int64_t r = 0; r < kRowsOfPair / (4 * steps_per_group(E)); ++r) next_row();
  }

  void all() {
    while (row_ < num_rows_) next_row();
  }

 private:
  const float* from_;
  float* to_;
  int64_t from_stride_, to_stride_, num_rows_;
  const float* x_scales_[2];
  const float* w_scales_;
  const Dots& dots_;
  int64_t row_ = 0;
};

struct NoPieces {
  void operator()() {}
};

#define INDEXSHARE_TILE_PRODUCT(c, a, b)        \
  if constexpr (!is_integer(E)) {               \
    _tile_dpbf16ps(c, a, b);                    \
  } else if constexpr (kParts == 2 && a == 5) { \
    _tile_dpbusd(c, a, b);                      \
  } else {                                      \
    _tile_dpbssd(c, a, b);                      \
  }

// Tiles of one step: C 0..3, A 4 and 5, B 6 and 7. Before the first step of a group, C moves to `dots`.
template <WeightElement E, int kParts, bool kBoth, bool kFirst, class Pieces>
[[gnu::always_inline]] inline void multiply_step(const std::byte* a, int64_t a_stride, const std::byte* b,
                                                 Dots& dots, Pieces& finish_piece) {
  constexpr int64_t kStride = kPanelWidth * 4;
  _tile_loadd(4, a, 64);
  _tile_loadd(6, b, 64);
  if constexpr (kFirst) {
    _tile_stored(0, dots.values[0][0], kStride);
    _tile_zero(0);
  }
  INDEXSHARE_TILE_PRODUCT(0, 4, 6)
  finish_piece();
  if constexpr (kBoth) _tile_loadd(5, a + a_stride, 64);
  if constexpr (kFirst) {
    _tile_stored(2, dots.values[1][0], kStride);
    _tile_zero(2);
  }
  if constexpr (kBoth) {
    INDEXSHARE_TILE_PRODUCT(2, 5, 6)
  }
  finish_piece();
  _tile_loadd(7, b + kTileBytes, 64);
  if constexpr (kFirst) {
    _tile_stored(1, dots.values[0][0] + 16, kStride);
    _tile_zero(1);
  }
  INDEXSHARE_TILE_PRODUCT(1, 4, 7)
  finish_piece();
  if constexpr (kFirst) {
    _tile_stored(3, dots.values[1][0] + 16, kStride);
    _tile_zero(3);
  }
  if constexpr (kBoth) {
    INDEXSHARE_TILE_PRODUCT(3, 5, 7)
  }
  finish_piece();
}

#undef INDEXSHARE_TILE_PRODUCT

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

alignas(64) constexpr float kZeros[kPanelWidth] = {};

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
      drain();  // y is read again
    }
  }

 private:
  static constexpr int64_t kRowsOfPair = Finish<E, kParts>::kRowsOfPair;
  static constexpr int64_t kBlockRows = kBlockTiles / 2 * kRowsOfPair;

  // Neighbouring steps of some rows of a panel.
  struct Chunk {
    int64_t row, num_rows;  // <= kBlockRows
    int64_t step_begin, step_end;
    int64_t last_step;  // where the sums go to y
    bool first;         // where they come from there
    float* y;           // at the first row; nullptr where the panel is wider than y
  };

  // Steps [step_begin, step_end) of all rows.
  void multiply_panel(int64_t panel, int64_t step_begin, int64_t step_end) {
    const std::byte* weights = weight_.panels() + static_cast<size_t>(panel) * weight_.panel_bytes();
    const bool partial = columns_of(panel) < kPanelWidth;
    for (int64_t row = 0; row < share_.num_rows; row += kBlockRows) {
      const int64_t num_rows = smaller(kBlockRows, share_.num_rows - row);
      float* y = product_.y + (share_.row_begin + row) * product_.y_stride + panel * kPanelWidth;
      if (partial) {
        drain();
        read_sums(y, num_rows, panel, step_begin > 0);
      }
      for (int64_t step = step_begin; step < step_end; step += kChunkSteps) {
        const Chunk chunk{row,
                          num_rows,
                          step,
                          smaller(step + kChunkSteps, step_end),
                          step_end,
                          step == step_begin,
                          partial ? nullptr : y};
        multiply_chunk(weights, wide_chunk(weights, chunk, step_begin), chunk);
      }
      if (!partial) continue;
      drain();
      write_sums(y, num_rows, panel);
    }
  }

  const std::byte* group_of(const std::byte* weights, int64_t step) const {
    return weights + step / steps_per_group(E) * group_bytes(E);
  }

  // The chunk's steps ready for tiles, where they are widened; once for all rows.
  const std::byte* wide_chunk(const std::byte* weights, const Chunk& chunk, int64_t step_begin) {
    if constexpr (!kWiden<E>) return nullptr;
    const bool one_block = share_.num_rows <= kBlockRows;
    const int64_t begin = chunk.step_begin, end = chunk.step_end;
    std::byte* wide = scratch_.widened + (one_block ? 0 : (begin - step_begin) * kWideStep);
    if (chunk.row > 0) return wide;
    for (int64_t step = begin; step < end; ++step) {
      const std::byte* from =
          group_of(weights, step) + group_header_bytes(E) + step % steps_per_group(E) * step_bytes(E);
      std::byte* to = wide + (step - begin) * kWideStep;
      E == WeightElement::f8_e4m3 ? widen_f8_step(from, to) : widen_int4_step(from, to);
    }
    asm volatile("" : : : "memory");  // tile loads do not tell the compiler that they read
    return wide;
  }

  void multiply_chunk(const std::byte* weights, const std::byte* wide, const Chunk& chunk) {
    for (int64_t r = 0; r < chunk.num_rows; r += kRowsOfPair) {
      const int64_t block = (chunk.row + r) / kTileRows, rows = smaller(kRowsOfPair, chunk.num_rows - r);
      const float* x_scales = x_scales_ + block * layout_.block_scales();
      const std::byte* a = a_ + block * kParts * a_stride_;
      for (int64_t step = chunk.step_begin; step < chunk.step_end; step += steps_per_group(E)) {
        const std::byte* group = group_of(weights, step);
        const std::byte* b =
            kWiden<E> ? wide + (step - chunk.step_begin) * kWideStep : group + group_header_bytes(E);
        Pending& next = pending(0);
        next.from = next.to = scratch_.sums[r];
        next.from_stride = next.to_stride = kPanelWidth;
        next.num_rows = rows;
        next.x_scales = x_scales + step / steps_per_group(E) * kTileRows;
        next.scale_stride = layout_.block_scales();
        next.w_scales = reinterpret_cast<const float*>(group);
        if (chunk.y) place_ends(chunk, r, step, next);
        const int64_t steps = smaller(steps_per_group(E), chunk.step_end - step);
        if (kParts == 2 || rows > kTileRows) {
          multiply_group<true>(a + step * kTileBytes, b, steps);
        } else {
          multiply_group<false>(a + step * kTileBytes, b, steps);
        }
      }
    }
  }

  // Where the sums of the first and of the last group come from and go to.
  void place_ends(const Chunk& chunk, int64_t r, int64_t step, Pending& group) const {
    float* y = chunk.y + r * product_.y_stride;
    if (step == 0) {
      group.from = kZeros;
      group.from_stride = 0;
    } else if (chunk.first && step == chunk.step_begin) {
      group.from = y;
      group.from_stride = product_.y_stride;
    }
    if (step + steps_per_group(E) >= chunk.last_step) {
      group.to = y;
      group.to_stride = product_.y_stride;
    }
  }

  // A group enters the pipeline, the one before its predecessor leaves it.
  template <bool kBoth>
  void multiply_group(const std::byte* a, const std::byte* b, int64_t num_steps) {
    Dots& to = scratch_.dots[entered_ % 2];
    Finish<E, kParts> finish(pending(2), scratch_.dots[(entered_ + 1) % 2]);
    if (kBoth && num_steps == steps_per_group(E) && pending(2).num_rows == kRowsOfPair) {
      multiply_step<E, kParts, kBoth, true>(a, a_stride_, b, to, finish);
      for (int64_t s = 1; s < steps_per_group(E); ++s)
        multiply_step<E, kParts, kBoth, false>(a + s * kTileBytes, a_stride_, b + s * kWideStep, to, finish);
    } else {
      NoPieces no_pieces;
      multiply_step<E, kParts, kBoth, true>(a, a_stride_, b, to, no_pieces);
      for (int64_t s = 1; s < num_steps; ++s)
        multiply_step<E, kParts, kBoth, false>(a + s * kTileBytes, a_stride_, b + s * kWideStep, to,
                                               no_pieces);
      finish.all();
    }
    ++entered_;
  }

  void drain() {
    Finish<E, kParts>(pending(2), scratch_.dots[(entered_ + 1) % 2]).all();
    Dots& dots = scratch_.dots[entered_ % 2];
    constexpr int64_t kStride = kPanelWidth * 4;
    _tile_stored(0, dots.values[0][0], kStride);
    _tile_stored(1, dots.values[0][0] + 16, kStride);
    _tile_stored(2, dots.values[1][0], kStride);
    _tile_stored(3, dots.values[1][0] + 16, kStride);
    Finish<E, kParts>(pending(1), dots).all();
    pending(1).num_rows = pending(2).num_rows = 0;
  }

  // 0: the group that enters, 1: whose products are in C, 2: whose products are in scratch_.dots.
  Pending& pending(uint32_t age) { return pending_[(entered_ - age) % 4]; }

  int64_t columns_of(int64_t panel) const {
    return smaller(kPanelWidth, weight_.out_dim() - panel * kPanelWidth);
  }

  // Sums of a panel that y has no room for, before and after its groups.
  void read_sums(const float* y, int64_t num_rows, int64_t panel, bool from_y) {
    for (int64_t r = 0; r < num_rows; ++r)
      copy_row(from_y ? y + r * product_.y_stride : kZeros, columns_of(panel), scratch_.sums[r]);
  }
  void write_sums(float* y, int64_t num_rows, int64_t panel) {
    for (int64_t r = 0; r < num_rows; ++r)
      copy_row(scratch_.sums[r], columns_of(panel), y + r * product_.y_stride);
  }

  static void copy_row(const float* from, int64_t columns, float* to) {
    const auto mask = static_cast<uint32_t>((uint64_t{1} << columns) - 1);
    _mm512_mask_storeu_ps(to, static_cast<__mmask16>(mask),
                          _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), from));
    _mm512_mask_storeu_ps(to + 16, static_cast<__mmask16>(mask >> 16),
                          _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), from + 16));
  }

  const ProductShare& share_;
  const Product& product_;
  const PackedMatrix& weight_;
  const ActivationLayout layout_;
  Scratch& scratch_;
  const int64_t num_steps_, a_stride_, num_tiles_;
  const std::byte* a_;
  const float* x_scales_;
  Pending pending_[4];
  uint32_t entered_ = 0;
};

template <template <int> class RunOfParts>
void multiply_share_of(const ProductShare& share) {
  if (share.product->weight->activation_parts() == 1) {
    RunOfParts<1>(share).multiply();
  } else {
    RunOfParts<2>(share).multiply();
  }
}

template <int kParts>
using F8Run = Run<WeightElement::f8_e4m3, kParts>;
template <int kParts>
using Int8Run = Run<WeightElement::int8, kParts>;
template <int kParts>
using Int4Run = Run<WeightElement::int4, kParts>;

}  // namespace

void multiply_share(const ProductShare& share) {
  const TileScope tiles;
  switch (share.product->weight->element()) {
    case WeightElement::bf16:
      return multiply_share_of<Bf16Run>(share);
    case WeightElement::f8_e4m3:
      return multiply_share_of<F8Run>(share);
    case WeightElement::int8:
      return multiply_share_of<Int8Run>(share);
    case WeightElement::int4:
      return multiply_share_of<Int4Run>(share);
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
