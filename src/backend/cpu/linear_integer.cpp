// SPDX-License-Identifier: Apache-2.0
// y[row, o] = sum over groups g of float(dot_g) * (x_scale[row, g] * w_scale[o, g]), g ascending, one fused
// multiply-add each; dot_g is the exact integer dot product of the group's codes. So the bits are the same on
// every path. Lanes are output columns: a 32-bit lane of W holds four codes of one column, which shifts turn
// into two pairs of 16 bits that meet the pairs of x (integer form of activations.h).
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/linear_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/linear_integer.cpp"
#include "backend/cpu/targets.h"
// After targets.h.
#include <hwy/highway.h>

#include "backend/cpu/vector-inl.h"

#ifndef INDEXSHARE_CPU_LINEAR_INTEGER_ONCE_
#define INDEXSHARE_CPU_LINEAR_INTEGER_ONCE_
namespace indexshare {

constexpr int64_t kTileRowBytes = 64;                     // 16 columns of 4 codes
constexpr int64_t kStepCodes = 64;                        // of `in`
constexpr int64_t kTileBytesOfStep = 16 * kTileRowBytes;  // the second tile of a step comes so far behind

struct IntegerScratch {
  alignas(64) float sums[kIntegerShareRows * kPanelWidth];
  alignas(64) std::byte widened[2048];  // a step of int4 as int8
};
static_assert(sizeof(IntegerScratch) <= kShareScratchBytes);

}  // namespace indexshare
#endif

HWY_BEFORE_NAMESPACE();
namespace indexshare {
namespace HWY_NAMESPACE {
namespace {

using Ints = hn::Vec<IntTag>;

constexpr int kMaxRows = kLanes == 16 ? 8 : 4;  // rows of a register tile of two vectors

// sum + a.low * b.low + a.high * b.high, the 16-bit halves of each lane.
HWY_INLINE Ints add_pairs(Ints sum, Ints a, Ints b) {
#if HWY_TARGET == HWY_AVX3
  return Ints{_mm512_add_epi32(sum.raw, _mm512_madd_epi16(a.raw, b.raw))};
#elif HWY_TARGET == HWY_AVX2
  return Ints{_mm256_add_epi32(sum.raw, _mm256_madd_epi16(a.raw, b.raw))};
#else
  const auto low = [](Ints v) { return hn::ShiftRight<16>(hn::ShiftLeft<16>(v)); };
  const auto high = [](Ints v) { return hn::ShiftRight<16>(v); };
  return hn::Add(hn::Add(sum, hn::Mul(low(a), low(b))), hn::Mul(high(a), high(b)));
#endif
}

// Codes 0 and 2, then 1 and 3 of each lane as pairs of 16 bits.
HWY_INLINE void widen_codes(Ints codes, Ints& even, Ints& odd) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  const hn::Repartition<int16_t, IntTag> d16;
  const auto words = hn::BitCast(d16, codes);
  even = hn::BitCast(IntTag(), hn::ShiftRight<8>(hn::ShiftLeft<8>(words)));
  odd = hn::BitCast(IntTag(), hn::ShiftRight<8>(words));
#else
  const auto pair = [](Ints low, Ints high) {
    return hn::Or(hn::And(low, hn::Set(IntTag(), 0xffff)), hn::ShiftLeft<16>(high));
  };
  even = pair(hn::ShiftRight<24>(hn::ShiftLeft<24>(codes)), hn::ShiftRight<24>(hn::ShiftLeft<8>(codes)));
  odd = pair(hn::ShiftRight<24>(hn::ShiftLeft<16>(codes)), hn::ShiftRight<24>(codes));
#endif
}

HWY_INLINE Floats fused_multiply_add(Floats a, Floats b, Floats c) {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
  float x[kLanes], y[kLanes], z[kLanes];  // MulAdd rounds twice here
  store(a, x), store(b, y), store(c, z);
  for (size_t i = 0; i < kLanes; ++i) z[i] = std::fma(x[i], y[i], z[i]);
  return load(z);
#else
  return hn::MulAdd(a, b, c);
#endif
}

struct Group {
  const std::byte* steps;  // as packed
  const float* scales;     // [32]
  int64_t num_steps;
};

struct Rows {
  const int16_t* x;     // at the group's first code of the first row
  int64_t x_stride;     // codes
  const float* scales;  // of the group, of 16 rows
  float* sums;          // [.., 32]
  int num_rows;
};

// Dot products of R rows with 2 vectors of columns; adds them to the sums.
template <int R>
HWY_INLINE void multiply_columns(const Group& group, const Rows& rows, int64_t first, int64_t second) {
  const auto place = [](int64_t column) { return column / 16 * kTileBytesOfStep + column % 16 * 4; };
  Ints dots[R][2];
  for (int r = 0; r < R; ++r) dots[r][0] = dots[r][1] = hn::Zero(IntTag());
  for (int64_t quad = 0; quad < group.num_steps * (kStepCodes / 4); ++quad) {
    const std::byte* w = group.steps + quad / 16 * 2048 + quad % 16 * kTileRowBytes;
    const auto load_codes = [&](int64_t column) {
      return hn::LoadU(IntTag(), reinterpret_cast<const int32_t*>(w + place(column)));
    };
    Ints even[2], odd[2];
    widen_codes(load_codes(first), even[0], odd[0]);
    widen_codes(load_codes(second), even[1], odd[1]);
    for (int r = 0; r < R; ++r) {
      int32_t pairs[2];
      std::memcpy(pairs, rows.x + r * rows.x_stride + quad * 4, sizeof pairs);
      const Ints x_even = hn::Set(IntTag(), pairs[0]), x_odd = hn::Set(IntTag(), pairs[1]);
      for (int v = 0; v < 2; ++v)
        dots[r][v] = add_pairs(add_pairs(dots[r][v], x_even, even[v]), x_odd, odd[v]);
    }
  }
  const int64_t columns[2] = {first, second};
  for (int r = 0; r < R; ++r) {
    if (r >= rows.num_rows) break;
    for (int v = 0; v < 2; ++v) {
      float* sum = rows.sums + r * kPanelWidth + columns[v];
      const Floats scale = hn::Mul(broadcast(rows.scales[r]), load(group.scales + columns[v]));
      store(fused_multiply_add(hn::ConvertTo(FloatTag(), dots[r][v]), scale, load(sum)), sum);
    }
  }
}

template <int R>
HWY_NOINLINE void multiply_rows(const Group& group, const Rows& rows) {
  constexpr auto lanes = static_cast<int64_t>(kLanes);
  for (int64_t c = 0; c < kPanelWidth; c += 2 * lanes) multiply_columns<R>(group, rows, c, c + lanes);
}

// All rows of the share against one group of columns of one panel.
HWY_INLINE void multiply_group(const Group& group, Rows rows, int64_t num_rows, int64_t scale_stride) {
  const int16_t* x = rows.x;
  const float* scales = rows.scales;
  float* sums = rows.sums;
  for (int64_t row = 0; row < num_rows; row += kMaxRows) {
    rows.x = x + row * rows.x_stride;
    rows.scales = scales + row / kRowsOfBlock * scale_stride + row % kRowsOfBlock;
    rows.sums = sums + row * kPanelWidth;
    rows.num_rows = static_cast<int>(HWY_MIN(static_cast<int64_t>(kMaxRows), num_rows - row));
    if (rows.num_rows == 1) {
      multiply_rows<1>(group, rows);
    } else if (rows.num_rows == 2) {
      multiply_rows<2>(group, rows);
    } else if (rows.num_rows <= 4) {
      multiply_rows<4>(group, rows);
    } else {
      multiply_rows<kMaxRows>(group, rows);
    }
  }
}

// Both tiles of a step.
HWY_INLINE void widen_int4(const std::byte* from, std::byte* to) {
  const auto* pairs = reinterpret_cast<const int8_t*>(from);
  auto* codes = reinterpret_cast<int8_t*>(to);
  for (int tile = 0; tile < 2; ++tile)
    for (int i = 0; i < 512; ++i) {
      codes[tile * 1024 + i] = static_cast<int8_t>(static_cast<int8_t>(pairs[tile * 512 + i] * 16) >> 4);
      codes[tile * 1024 + 512 + i] = static_cast<int8_t>(pairs[tile * 512 + i] >> 4);
    }
}

void multiply_integer_share(const ProductShare& share) {
  const Product& p = *share.product;
  const PackedMatrix& w = *p.weight;
  const WeightElement element = w.element();
  const ActivationLayout layout(w);
  auto& scratch = *reinterpret_cast<IntegerScratch*>(share.scratch);
  const int64_t steps = steps_per_group(element), stride = w.num_steps() * kStepCodes;
  const int64_t block = share.row_begin / kRowsOfBlock;
  const auto* x =
      reinterpret_cast<const int16_t*>(p.converted.codes + static_cast<size_t>(block) * layout.block_bytes());
  const float* scales = p.converted.scales + block * layout.block_scales();
  for (int64_t panel = share.panel_begin; panel < share.panel_end; ++panel) {
    std::fill_n(scratch.sums, share.num_rows * kPanelWidth, 0.0f);
    const std::byte* weights = w.panels() + static_cast<size_t>(panel) * w.panel_bytes();
    for (int64_t g = 0; g < w.num_groups(); ++g) {
      const std::byte* packed = weights + g * group_bytes(element);
      Group group{packed + group_header_bytes(element), reinterpret_cast<const float*>(packed),
                  HWY_MIN(steps, w.num_steps() - g * steps)};
      if (element == WeightElement::int4) {
        widen_int4(group.steps, scratch.widened);
        group.steps = scratch.widened;
      }
      multiply_group(group, {x + g * steps * kStepCodes, stride, scales + g * kRowsOfBlock, scratch.sums, 0},
                     share.num_rows, layout.block_scales());
    }
    const int64_t columns = HWY_MIN(kPanelWidth, w.out_dim() - panel * kPanelWidth);
    for (int64_t r = 0; r < share.num_rows; ++r)
      std::memcpy(p.y + (share.row_begin + r) * p.y_stride + panel * kPanelWidth,
                  scratch.sums + r * kPanelWidth, static_cast<size_t>(columns) * sizeof(float));
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace indexshare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace indexshare {
HWY_EXPORT(multiply_integer_share);
ShareKernel integer_share_kernel(size_t table_index) {
  return HWY_DISPATCH_TABLE(multiply_integer_share)[table_index];
}
}  // namespace indexshare
#endif
