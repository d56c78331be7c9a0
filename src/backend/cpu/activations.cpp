// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/activations.h"

#include <algorithm>

#include "backend/cpu/cpu_backend.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/activations.cpp"
#include "backend/cpu/targets.h"
// After targets.h.
#include <hwy/highway.h>

#include "backend/cpu/quantise-inl.h"

HWY_BEFORE_NAMESPACE();
namespace indexshare {
namespace HWY_NAMESPACE {

constexpr int64_t kMaxGroup = 128;

void interleave_codes(const int16_t* codes, int16_t* to) {
  for (int i = 0; i < 64; i += 4) {
    to[i] = codes[i];
    to[i + 1] = codes[i + 2];
    to[i + 2] = codes[i + 1];
    to[i + 3] = codes[i + 3];
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

struct Row {
  const float* x;
  int64_t length, group, num_groups, num_steps;
  float limit;     // the largest code
  int16_t* codes;  // of the row's first step
  float* scales;   // 16 apart
};

void convert_row(const Row& row) {
  HWY_ALIGN int16_t codes[kMaxGroup];
  float buffer[kMaxGroup];
  for (int64_t g = 0; g < row.num_groups; ++g) {
    const float* x = padded(row.x, g * row.group, row.group, row.length, buffer);
    row.scales[g * kRowsOfBlock] = quantise(x, row.group, row.limit, codes);
    for (int64_t i = 0; i < row.group; i += 64) {
      const int64_t step = (g * row.group + i) / 64;
      if (step >= row.num_steps) break;
      interleave_codes(codes + i, row.codes + step * 64);
    }
  }
}

void quantise_block(const ConvertShare& share) {
  const Product& p = *share.product;
  const PackedMatrix& w = *p.weight;
  const ActivationLayout layout(w);
  auto* codes =
      reinterpret_cast<int16_t*>(p.converted.codes + static_cast<size_t>(share.block) * layout.block_bytes());
  float* scales = p.converted.scales + share.block * layout.block_scales();
  const int64_t first = share.block * kRowsOfBlock, rows = std::min(kRowsOfBlock, p.num_rows - first);
  for (int64_t r = 0; r < rows; ++r)
    convert_row({p.x_row(first + r), w.in_dim(), group_columns(w.element()), w.num_groups(), w.num_steps(),
                 w.arithmetic() == ProductArithmetic::int16 ? 32767.0f : 127.0f,
                 codes + r * w.num_steps() * 64, scales + r});
}

}  // namespace HWY_NAMESPACE
}  // namespace indexshare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace indexshare {

HWY_EXPORT(quantise_block);

namespace {

bool in_codes(const Product& p) {
  const ProductArithmetic arithmetic = p.weight->arithmetic();
  return arithmetic == ProductArithmetic::int8 || arithmetic == ProductArithmetic::int16;
}

// Neighbours with the same x share its conversion: the first one's.
bool needs_conversion(std::span<const Product> products, size_t n) {
  if (!in_codes(products[n])) return false;
  return n == 0 || !same_x(products[n - 1], products[n]);
}

}  // namespace

void CpuBackend::convert_activations(std::span<Product> products) {
  size_t num_bytes = 0;
  int64_t num_blocks = 0;
  const auto bytes_of = [&](const Product& p) {
    return (ActivationLayout(*p.weight).num_bytes(p.num_rows) + 63) / 64 * 64;
  };
  for (size_t n = 0; n < products.size(); ++n)
    if (needs_conversion(products, n)) num_bytes += bytes_of(products[n]);
  if (num_bytes == 0) return;
  std::byte* memory = scratch_.bytes(num_bytes);
  for (size_t n = 0; n < products.size(); ++n) {
    Product& p = products[n];
    if (!in_codes(p)) continue;
    if (!needs_conversion(products, n)) {
      p.converted = products[n - 1].converted;
      continue;
    }
    p.converted = ActivationLayout(*p.weight).at(memory, p.num_rows);
    memory += bytes_of(p);
    num_blocks += ActivationLayout::num_blocks(p.num_rows);
  }
  constexpr int64_t kWorthAThread = 64;  // row blocks; waking a worker costs some tens of microseconds
  const auto kernel = HWY_DISPATCH_TABLE(quantise_block)[path_.table_index];
  parallel(num_blocks, kWorthAThread, [&](int64_t begin, int64_t end, int) {
    int64_t start = 0;
    for (size_t n = 0; n < products.size() && start < end; ++n) {
      if (!needs_conversion(products, n)) continue;
      const int64_t blocks = ActivationLayout::num_blocks(products[n].num_rows);
      for (int64_t b = std::max<int64_t>(0, begin - start); b < std::min(blocks, end - start); ++b)
        kernel({&products[n], b});
      start += blocks;
    }
  });
}

}  // namespace indexshare
#endif
