// SPDX-License-Identifier: Apache-2.0
// y[row, o] = sum_i x[row, i] * W[o, i]. Lanes are output columns: each element is one chain of FMAs over
// ascending i within blocks of 128, then y += block * scale, block by block, for one row as for a thousand.
// A share copies its rows of x side by side; with more rows than a register tile each weight block is widened
// to f32 once (16 KiB, first cache) and used for all of them, with fewer it is widened in registers. int4 has
// blocks of 64.
#include <algorithm>
#include <cstring>

#include "backend/cpu/linear_kernels.h"
#include "backend/cpu/product.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/linear_float.cpp"
#include "backend/cpu/targets.h"
// After targets.h.
#include <hwy/highway.h>

#include "backend/cpu/vector-inl.h"

#ifndef INDEXSHARE_CPU_LINEAR_FLOAT_ONCE_
#define INDEXSHARE_CPU_LINEAR_FLOAT_ONCE_
namespace indexshare {

constexpr int64_t kDepth = 1024;                    // columns of x held at a time
constexpr int64_t kHeldStride = kDepth + 16;        // no power of two: rows must not share cache sets
constexpr int64_t kTailRows = kFloatShareRows + 8;  // a register tile may reach past the last row
constexpr size_t kHeldFloats = kTailRows * kHeldStride;
constexpr size_t kBlockFloats = kScaleBlock * kPanelWidth;
constexpr size_t kTailFloats = kTailRows * kPanelWidth;
static_assert((kHeldFloats + kBlockFloats + kTailFloats) * sizeof(float) <= kShareScratchBytes);

inline float* float_scratch(const ProductShare& share) { return reinterpret_cast<float*>(share.scratch); }

}  // namespace indexshare
#endif

HWY_BEFORE_NAMESPACE();
namespace indexshare {
namespace HWY_NAMESPACE {

// How the 32 weights of one `in` become vectors: `half` selects columns [half * kLanes, ..) and 16 further.
struct LoadF32 {
  using Element = float;
  static constexpr int64_t kStride = kPanelWidth;  // elements of one `in`
  static HWY_INLINE void load_pair(const float* w, size_t half, Floats& a, Floats& b) {
    a = load(w + half * kLanes);
    b = load(w + kHalfPanel + half * kLanes);
  }
};

struct LoadF16 {
  using Element = uint16_t;
  static constexpr int64_t kStride = kPanelWidth;
  static HWY_INLINE void load_pair(const uint16_t* w, size_t half, Floats& a, Floats& b) {
    const hn::Rebind<hwy::float16_t, FloatTag> d16;
    const auto* p = reinterpret_cast<const hwy::float16_t*>(w) + half * kLanes;
    a = hn::PromoteTo(FloatTag(), hn::LoadU(d16, p));
    b = hn::PromoteTo(FloatTag(), hn::LoadU(d16, p + kHalfPanel));
  }
};

struct LoadBf16 {
  using Element = uint16_t;
  static constexpr int64_t kStride = kPanelWidth;
  static HWY_INLINE void load_pair(const uint16_t* w, size_t half, Floats& a, Floats& b) {
    const WordTag d32;
    const auto words = hn::LoadU(d32, reinterpret_cast<const uint32_t*>(w) + half * kLanes);
    a = hn::BitCast(FloatTag(), hn::ShiftLeft<16>(words));
    b = hn::BitCast(FloatTag(), hn::And(words, hn::Set(d32, 0xffff0000u)));
  }
};

// s eeee mmm becomes the f16 s 0eeee mmm0000000, subnormals and all, 2^-8 too small.
struct LoadF8 {
  using Element = uint8_t;
  static constexpr int64_t kStride = kPanelWidth;
  static HWY_INLINE void load_pair(const uint8_t* w, size_t half, Floats& a, Floats& b) {
    const hn::Rebind<int16_t, FloatTag> d16;
    const hn::Rebind<hwy::float16_t, FloatTag> df16;
    const auto mask = hn::Set(d16, static_cast<int16_t>(0xbf80));
    const auto codes = hn::LoadU(d16, reinterpret_cast<const int16_t*>(w) + half * kLanes);
    const auto low = hn::And(hn::ShiftRight<1>(hn::ShiftLeft<8>(codes)), mask);
    const auto high = hn::And(hn::ShiftRight<1>(codes), mask);
    a = hn::PromoteTo(FloatTag(), hn::BitCast(df16, low));
    b = hn::PromoteTo(FloatTag(), hn::BitCast(df16, high));
  }
};

struct LoadInt8 {
  using Element = int8_t;
  static constexpr int64_t kStride = kPanelWidth;
  static HWY_INLINE void load_pair(const int8_t* w, size_t half, Floats& a, Floats& b) {
    const hn::Rebind<int8_t, FloatTag> d8;
    a = hn::ConvertTo(FloatTag(), hn::PromoteTo(IntTag(), hn::LoadU(d8, w + half * kLanes)));
    b = hn::ConvertTo(FloatTag(), hn::PromoteTo(IntTag(), hn::LoadU(d8, w + kHalfPanel + half * kLanes)));
  }
};

struct LoadInt4 {
  using Element = int8_t;
  static constexpr int64_t kStride = kPanelWidth / 2;
  static HWY_INLINE void load_pair(const int8_t* w, size_t half, Floats& a, Floats& b) {
    const auto pairs = hn::PromoteTo(IntTag(), hn::LoadU(hn::Rebind<int8_t, FloatTag>(), w + half * kLanes));
    a = hn::ConvertTo(FloatTag(), hn::ShiftRight<28>(hn::ShiftLeft<28>(pairs)));
    b = hn::ConvertTo(FloatTag(), hn::ShiftRight<4>(pairs));
  }
};

struct Tile {
  const float* x;      // [R, .. kStride]
  const float* scale;  // [32] or nullptr
  float* y;            // [num_rows, .. y_stride], at the panel's first column
  int64_t y_stride;
  int64_t length;  // of the block, <= 128
  int num_rows;    // <= R; the rest of x is read, its results dropped
  bool first;      // y = instead of y +=
};

// With few rows weights come from memory faster when asked for so many `in` ahead than the hardware guesses.
constexpr int64_t kFetchAhead = 64;

// One block of `in` for R rows x 2 vectors. kStride is a constant so that the R rows share one address
// register.
template <int R, int64_t kStride, bool kFetch, class Load>
HWY_INLINE void multiply_tile(const Tile& t, const typename Load::Element* w, size_t half) {
  Floats acc0[R], acc1[R];
  for (int r = 0; r < R; ++r) acc0[r] = acc1[r] = hn::Zero(FloatTag());
  const float* x = t.x;
  for (int64_t i = 0; i < t.length; ++i) {
    Floats w0, w1;
    Load::load_pair(w + i * Load::kStride, half, w0, w1);
    if constexpr (kFetch) __builtin_prefetch(w + (i + kFetchAhead) * Load::kStride);
    for (int r = 0; r < R; ++r) {
      const Floats xr = broadcast(x[r * kStride + i]);
      acc0[r] = hn::MulAdd(xr, w0, acc0[r]);
      acc1[r] = hn::MulAdd(xr, w1, acc1[r]);
    }
  }
  const size_t column = half * kLanes;
  for (int r = 0; r < R; ++r) {
    if (r >= t.num_rows) break;
    float* y = t.y + r * t.y_stride + column;
    if (t.scale) {
      acc0[r] = hn::Mul(acc0[r], load(t.scale + column));
      acc1[r] = hn::Mul(acc1[r], load(t.scale + kHalfPanel + column));
    }
    if (!t.first) {
      acc0[r] = hn::Add(load(y), acc0[r]);
      acc1[r] = hn::Add(load(y + kHalfPanel), acc1[r]);
    }
    store(acc0[r], y);
    store(acc1[r], y + kHalfPanel);
  }
}

template <int R, bool kFetch, class Load>
HWY_NOINLINE void multiply_rows(const Tile& t, const void* block) {
  const auto* w = static_cast<const typename Load::Element*>(block);
  for (size_t half = 0; half < kVectorsPerHalf; ++half)
    multiply_tile<R, kHeldStride, kFetch, Load>(t, w, half);
}

// Any number of rows up to a register tile.
template <bool kFetch, class Load>
HWY_INLINE void multiply_few(const Tile& t, const void* block) {
  if (t.num_rows == 1) return multiply_rows<1, kFetch, Load>(t, block);
  if (t.num_rows == 2) return multiply_rows<2, kFetch, Load>(t, block);
  if (t.num_rows <= 4) return multiply_rows<4, kFetch, Load>(t, block);
  return multiply_rows<kTileRows, kFetch, Load>(t, block);
}

template <class Load>
HWY_INLINE void widen_block(const void* block, int64_t length, float* to) {
  const auto* w = static_cast<const typename Load::Element*>(block);
  for (int64_t i = 0; i < length; ++i)
    for (size_t half = 0; half < kVectorsPerHalf; ++half) {
      Floats a, b;
      Load::load_pair(w + i * Load::kStride, half, a, b);
      store(a, to + i * kPanelWidth + half * kLanes);
      store(b, to + i * kPanelWidth + kHalfPanel + half * kLanes);
    }
}

struct Held {
  const float* x;         // [num_rows rounded up to a register tile, kHeldStride]
  int64_t begin, length;  // columns
};

// All rows of the share against one block of one panel.
template <class Load>
HWY_INLINE void multiply_block(const ProductShare& share, const std::byte* block, Tile tile) {
  if (share.num_rows <= kTileRows) {
    tile.num_rows = static_cast<int>(share.num_rows);
    return multiply_few<true, Load>(tile, block);
  }
  const void* wide = block;
  if constexpr (!std::is_same_v<Load, LoadF32>) {
    float* widened = float_scratch(share) + kHeldFloats;
    widen_block<Load>(block, tile.length, widened);
    wide = widened;
  }
  const float* x = tile.x;
  float* y = tile.y;
  for (int64_t row = 0; row < share.num_rows; row += kTileRows) {
    tile.x = x + row * kHeldStride;
    tile.y = y + row * tile.y_stride;
    tile.num_rows = static_cast<int>(HWY_MIN(static_cast<int64_t>(kTileRows), share.num_rows - row));
    if (tile.num_rows == kTileRows) {
      multiply_rows<kTileRows, false, LoadF32>(tile, wide);
    } else {
      multiply_few<false, LoadF32>(tile, wide);
    }
  }
}

// Rows of the share against all held columns of one panel.
template <class Load>
HWY_INLINE void multiply_panel(const ProductShare& share, const Held& held, int64_t panel) {
  const Product& p = *share.product;
  const PackedMatrix& w = *p.weight;
  const int64_t columns = HWY_MIN(kPanelWidth, w.out_dim() - panel * kPanelWidth);
  float* y = p.y + share.row_begin * p.y_stride + panel * kPanelWidth;
  float* tail =
      float_scratch(share) + kHeldFloats + kBlockFloats;  // [num_rows, 32], where the panel is wider than y
  const bool partial = columns < kPanelWidth;
  if (partial && held.begin > 0)
    for (int64_t r = 0; r < share.num_rows; ++r)
      std::memcpy(tail + r * kPanelWidth, y + r * p.y_stride, static_cast<size_t>(columns) * sizeof(float));
  Tile tile{held.x, nullptr, partial ? tail : y, partial ? kPanelWidth : p.y_stride, 0, 0, false};
  const std::byte* weights = w.panels() + static_cast<size_t>(panel) * w.panel_bytes();
  const int64_t group = group_columns(w.element());
  for (int64_t i = held.begin; i < held.begin + held.length; i += group) {
    tile.x = held.x + (i - held.begin);
    if (w.scales()) tile.scale = w.scales() + (panel * w.num_groups() + i / group) * kPanelWidth;
    tile.length = HWY_MIN(group, w.in_dim() - i);
    tile.first = i == 0;
    multiply_block<Load>(
        share, weights + static_cast<size_t>(i * Load::kStride) * sizeof(typename Load::Element), tile);
  }
  if (partial)
    for (int64_t r = 0; r < share.num_rows; ++r)
      std::memcpy(y + r * p.y_stride, tail + r * kPanelWidth, static_cast<size_t>(columns) * sizeof(float));
}

// Columns [begin, begin + length) of the share's rows, side by side; zeros up to the next register tile.
HWY_INLINE Held hold(const ProductShare& share, int64_t begin, int64_t length) {
  const Product& p = *share.product;
  if (share.num_rows == 1) {
    return {p.x_row(share.row_begin) + begin, begin, length};
  }
  float* to = float_scratch(share);
  const size_t bytes = static_cast<size_t>(length) * sizeof(float);
  int64_t r = 0;
  for (; r < share.num_rows; ++r)
    std::memcpy(to + r * kHeldStride, p.x_row(share.row_begin + r) + begin, bytes);
  for (; r % kTileRows != 0; ++r) std::memset(to + r * kHeldStride, 0, bytes);
  return {to, begin, length};
}

template <class Load>
void multiply_share_of(const ProductShare& share) {
  const int64_t in_dim = share.product->weight->in_dim();
  for (int64_t begin = 0; begin < in_dim; begin += kDepth) {
    const Held held = hold(share, begin, HWY_MIN(kDepth, in_dim - begin));
    for (int64_t panel = share.panel_begin; panel < share.panel_end; ++panel)
      multiply_panel<Load>(share, held, panel);
  }
}

void multiply_float_share(const ProductShare& share) {
  switch (share.product->weight->element()) {
    case WeightElement::f32:
      return multiply_share_of<LoadF32>(share);
    case WeightElement::f16:
      return multiply_share_of<LoadF16>(share);
    case WeightElement::bf16:
      return multiply_share_of<LoadBf16>(share);
    case WeightElement::f8_e4m3:
      return multiply_share_of<LoadF8>(share);
    case WeightElement::int8:
      return multiply_share_of<LoadInt8>(share);
    case WeightElement::int4:
      return multiply_share_of<LoadInt4>(share);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace indexshare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace indexshare {
HWY_EXPORT(multiply_float_share);
ShareKernel float_share_kernel(size_t table_index) {
  return HWY_DISPATCH_TABLE(multiply_float_share)[table_index];
}
}  // namespace indexshare
#endif
