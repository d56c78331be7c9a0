// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/activations.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "backend/cpu/cpu_backend.h"
#include "backend/quantise.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/activations.cpp"
#include "backend/cpu/targets.h"
// After targets.h.
#include <hwy/highway.h>

#include "backend/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace indexshare {
namespace HWY_NAMESPACE {

constexpr int64_t kMaxGroup = 128;

// quantise_int8 and quantise_int16 by vectors: the same scale and codes. @param count a multiple of 16
float quantise(const float* x, int64_t count, float limit, int16_t* codes) {
  const IntTag di;
  const auto lanes = static_cast<int64_t>(kLanes);
  const auto without_sign = hn::Set(di, 0x7fffffff);
  auto magnitudes = hn::Zero(di);  // the bits of non-negative floats are ordered as they are
  for (int64_t i = 0; i < count; i += lanes)
    magnitudes = hn::Max(magnitudes, hn::And(hn::BitCast(di, load(x + i)), without_sign));
  const int32_t bits = hn::GetLane(hn::MaxOfLanes(di, magnitudes));
  float largest;
  std::memcpy(&largest, &bits, sizeof largest);
  if (bits >= 0x7f800000 || largest < 1e-30f) {
    std::fill_n(codes, count, int16_t{0});
    return bits >= 0x7f800000 ? std::numeric_limits<float>::quiet_NaN() : 0.0f;
  }
  const Floats inverse = broadcast(limit / largest);
  const auto high = hn::Set(di, static_cast<int32_t>(limit)), low = hn::Neg(high);
  for (int64_t i = 0; i < count; i += lanes) {
    const auto code = hn::NearestInt(hn::Mul(load(x + i), inverse));
    hn::StoreU(hn::DemoteTo(hn::Rebind<int16_t, IntTag>(), hn::Max(low, hn::Min(code, high))),
               hn::Rebind<int16_t, IntTag>(), codes + i);
  }
  return largest / limit;
}

// 64 codes of one row and step, to the parts' tiles. @param part_bytes between high and low
template <int kParts>
void split_codes(const int16_t* codes, std::byte* to, int64_t part_bytes) {
  auto* high = reinterpret_cast<int8_t*>(to);
  auto* low = reinterpret_cast<uint8_t*>(to + part_bytes);
  for (int i = 0; i < 64; ++i) high[i] = static_cast<int8_t>(kParts == 2 ? codes[i] >> 8 : codes[i]);
  if constexpr (kParts == 2)
    for (int i = 0; i < 64; ++i) low[i] = static_cast<uint8_t>(codes[i]);
}

void interleave_codes(const int16_t* codes, int16_t* to) {
  for (int i = 0; i < 64; i += 4) {
    to[i] = codes[i];
    to[i + 1] = codes[i + 2];
    to[i + 2] = codes[i + 1];
    to[i + 3] = codes[i + 3];
  }
}

// f32_to_bf16 of each, in the high halves; the low ones are zero.
hn::Vec<WordTag> round_to_bf16(Floats x) {
  const WordTag d;
  const auto bits = hn::BitCast(d, x);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(d, 1));
  const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(d, 0x7fff)));
  const auto nan = hn::Or(bits, hn::Set(d, 0x400000));
  const auto result = hn::IfThenElse(hn::RebindMask(d, hn::Eq(x, x)), rounded, nan);
  return hn::And(result, hn::Set(d, 0xffff0000u));
}

// 32 elements of one row and step.
template <int kParts>
void split_bf16(const float* x, std::byte* to, int64_t part_bytes) {
  const hn::Rebind<uint16_t, FloatTag> d16;
  const auto store_high = [&](hn::Vec<WordTag> bits, std::byte* part, int64_t i) {
    hn::StoreU(hn::TruncateTo(d16, hn::ShiftRight<16>(bits)), d16, reinterpret_cast<uint16_t*>(part) + i);
  };
  for (int64_t i = 0; i < 32; i += static_cast<int64_t>(kLanes)) {
    const Floats value = load(x + i);
    const auto high = round_to_bf16(value);
    store_high(high, to, i);
    if constexpr (kParts == 2)
      store_high(round_to_bf16(hn::Sub(value, hn::BitCast(FloatTag(), high))), to + part_bytes, i);
  }
}

// [begin, begin + count) of a row of `length`, zeros beyond its end.
const float* padded(const float* row, int64_t begin, int64_t count, int64_t length, float* buffer) {
  if (begin + count <= length) return row + begin;
  const int64_t rest = std::max<int64_t>(0, length - begin);
  std::copy_n(row + begin, rest, buffer);
  std::fill(buffer + rest, buffer + count, 0.0f);
  return buffer;
}

template <int kParts>
void convert_bf16_row(const float* x, int64_t length, int64_t num_steps, std::byte* to) {
  float buffer[32];
  for (int64_t step = 0; step < num_steps; ++step)
    split_bf16<kParts>(padded(x, step * 32, 32, length, buffer), to + step * 1024, num_steps * 1024);
}

struct IntegerRow {
  const float* x;
  int64_t length, group, num_groups, num_steps;
  std::byte* codes;  // of the row's first step
  float* scales;     // 16 apart
};

template <int kParts, bool kTileForm>
void convert_integer_row(const IntegerRow& row) {
  HWY_ALIGN int16_t codes[kMaxGroup];
  float buffer[kMaxGroup];
  for (int64_t g = 0; g < row.num_groups; ++g) {
    const float* x = padded(row.x, g * row.group, row.group, row.length, buffer);
    row.scales[g * kRowsOfBlock] = quantise(x, row.group, kParts == 2 ? 32767.0f : 127.0f, codes);
    for (int64_t i = 0; i < row.group; i += 64) {
      const int64_t step = (g * row.group + i) / 64;
      if (step >= row.num_steps) break;
      if constexpr (kTileForm) {
        split_codes<kParts>(codes + i, row.codes + step * 1024, row.num_steps * 1024);
      } else {
        interleave_codes(codes + i, reinterpret_cast<int16_t*>(row.codes) + step * 64);
      }
    }
  }
}

void convert_block(const ConvertShare& share) {
  const Product& p = *share.product;
  const PackedMatrix& w = *p.weight;
  const ActivationLayout layout(w, share.tile_form);
  std::byte* codes = p.converted.codes + static_cast<size_t>(share.block) * layout.block_bytes();
  float* scales = p.converted.scales + share.block * layout.block_scales();
  const int64_t first = share.block * kRowsOfBlock, rows = std::min(kRowsOfBlock, p.num_rows - first);
  const bool both = w.activation_parts() == 2;
  const int64_t steps = w.num_steps();
  for (int64_t r = 0; r < rows; ++r) {
    const float* x = p.x_row(first + r);
    if (!is_integer(w.element())) {
      (both ? convert_bf16_row<2> : convert_bf16_row<1>)(x, w.in_dim(), steps, codes + r * 64);
      continue;
    }
    const IntegerRow row{x,
                         w.in_dim(),
                         group_columns(w.element()),
                         w.num_groups(),
                         steps,
                         codes + r * (share.tile_form ? 64 : steps * 128),
                         scales + r};
    if (share.tile_form) {
      (both ? convert_integer_row<2, true> : convert_integer_row<1, true>)(row);
    } else {
      (both ? convert_integer_row<2, false> : convert_integer_row<1, false>)(row);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace indexshare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace indexshare {

HWY_EXPORT(convert_block);

namespace {

bool same_rows(const Product& a, const Product& b) {
  return a.x == b.x && a.x_stride == b.x_stride && a.x_rows == b.x_rows && a.num_rows == b.num_rows &&
         a.weight->element() == b.weight->element() && a.weight->in_dim() == b.weight->in_dim() &&
         a.weight->activation_parts() == b.weight->activation_parts();
}

// Neighbours with the same x share its conversion: the first one's.
bool needs_conversion(std::span<const Product> products, size_t n) {
  if (products[n].weight->activation_parts() == 0) return false;
  return n == 0 || !same_rows(products[n - 1], products[n]);
}

}  // namespace

void CpuBackend::convert_activations(std::span<Product> products) {
  size_t num_bytes = 0;
  int64_t num_blocks = 0;
  const auto bytes_of = [&](const Product& p) {
    return (ActivationLayout(*p.weight, path_.tiles).num_bytes(p.num_rows) + 63) / 64 * 64;
  };
  for (size_t n = 0; n < products.size(); ++n)
    if (needs_conversion(products, n)) num_bytes += bytes_of(products[n]);
  if (num_bytes == 0) return;
  std::byte* memory = scratch_.bytes(num_bytes);
  for (size_t n = 0; n < products.size(); ++n) {
    Product& p = products[n];
    if (p.weight->activation_parts() == 0) continue;
    if (!needs_conversion(products, n)) {
      p.converted = products[n - 1].converted;
      continue;
    }
    p.converted = ActivationLayout(*p.weight, path_.tiles).at(memory, p.num_rows);
    memory += bytes_of(p);
    num_blocks += ActivationLayout::num_blocks(p.num_rows);
  }
  constexpr int64_t kWorthAThread = 64;  // row blocks; waking a worker costs some tens of microseconds
  const auto kernel = HWY_DISPATCH_TABLE(convert_block)[path_.table_index];
  parallel(num_blocks, kWorthAThread, [&](int64_t begin, int64_t end, int) {
    int64_t start = 0;
    for (size_t n = 0; n < products.size() && start < end; ++n) {
      if (!needs_conversion(products, n)) continue;
      const int64_t blocks = ActivationLayout::num_blocks(products[n].num_rows);
      for (int64_t b = std::max<int64_t>(0, begin - start); b < std::min(blocks, end - start); ++b)
        kernel({&products[n], b, path_.tiles});
      start += blocks;
    }
  });
}

}  // namespace indexshare
#endif
