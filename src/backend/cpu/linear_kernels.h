// SPDX-License-Identifier: Apache-2.0
// The kernels behind linear() and experts(), each for one share of a product's work, by the arithmetic that
// the weight was packed for:
//   linear_float.cpp      f32
//   linear_integer.cpp    int8, int16
//   linear_tiles_amx.cpp  bf16; one row of int8 weights: linear_row_amx.cpp
#pragma once

#include <algorithm>

#include "backend/cpu/activations.h"
#include "backend/cpu/product.h"

namespace indexshare {

/// Rows whose columns from `step` on (of 32) lie in a worker's scratch as bf16 tiles (for
/// multiply_row() one row, rounded, in f32).
struct HeldRows {
  const Product* product = nullptr;
  int64_t row_begin = 0, num_rows = 0, step = 0;
};

inline bool same_rows(const HeldRows& a, const HeldRows& b) {
  return a.product && same_x(*a.product, *b.product) && a.row_begin == b.row_begin &&
         a.num_rows == b.num_rows && a.step == b.step;
}

/// Panels [panel_begin, panel_end) of rows [row_begin, row_begin + num_rows) of a product. Unless in f32,
/// row_begin is a multiple of kRowsOfBlock.
struct ProductShare {
  const Product* product;
  int64_t row_begin, num_rows;
  int64_t panel_begin, panel_end;
  std::byte* scratch;  // [kShareScratchBytes], 64-byte aligned; the same for all shares of a worker
  HeldRows* held;      // what the worker's last share left there, bf16 alone
  const std::byte* next = nullptr;  // weights that the worker reads after these, to be fetched ahead
};

constexpr int64_t kFetchLater = 6144;  // bytes by which weights are fetched ahead, into the second cache

constexpr size_t kShareScratchBytes = size_t{1344} << 10;

// Largest num_rows of a share.
constexpr int64_t kFloatShareRows = 128;
constexpr int64_t kIntegerShareRows = 64;

// bf16: columns of x that are held at once (y carries the sums), and bytes of so many columns of all rows of
// a share.
constexpr int64_t kTileDepth = 1536;
constexpr int64_t kTileHeldBytes = int64_t{768} << 10;

using ShareKernel = void (*)(const ProductShare& share);

ShareKernel float_share_kernel(size_t table_index);  // of an instruction set, KernelPath::table_index
ShareKernel integer_share_kernel(size_t table_index);
namespace amx {
void multiply_share(const ProductShare& share);
/// The same for one row of int8 weights, linear_row_amx.cpp; the same bits.
void multiply_row(const ProductShare& share);
constexpr int64_t kLongestRow = kTileHeldBytes / 4;  // in_dim of multiply_row()

/// Weights that lie in a row up to `end`, and where reading goes on after them (nullptr: not known).
struct Stretch {
  const std::byte *end = nullptr, *next = nullptr;

  /// What is read kFetchLater after `now`.
  const std::byte* later(const std::byte* now) const {
    const std::byte* at = now + kFetchLater;
    return at < end || next == nullptr ? at : next + (at - end);
  }
};

constexpr int64_t kBlockRows = 32;  // two row tiles, which meet a panel in four tiles of C

/// Steps of 32 columns of `in` that all rows pass before the next ones' turn. A chunk of a panel (32 KiB)
/// stays in the first cache; a few rows that are read again and again should find room beside it.
constexpr int64_t kChunkSteps = 16;
constexpr int64_t chunk_steps(int64_t num_rows) {
  return num_rows > 2 * kBlockRows ? kChunkSteps : kChunkSteps / 2;
}

constexpr int64_t kHeldStepBytes = kBlockRows * 64;

/// Where held rows lie, in bytes: [chunk][block][step][row tile][16 rows][32], rows up to the next block.
struct HeldPlace {
  int64_t num_rows, num_steps;

  /// @param row within the share  @param step counted from HeldRows::step
  int64_t operator()(int64_t row, int64_t step) const {
    const int64_t chunk = step / chunk_steps(num_rows) * chunk_steps(num_rows);
    const int64_t blocks = (num_rows + kBlockRows - 1) / kBlockRows;
    const int64_t steps_before =
        blocks * chunk + row / kBlockRows * std::min(chunk_steps(num_rows), num_steps - chunk) + step - chunk;
    return steps_before * kHeldStepBytes + row % kBlockRows * 64;
  }
};

/// Columns [32 * rows.step, 32 * step_end), zeros beyond the last, rounded to nearest even.
void convert_to_bf16(const HeldRows& rows, int64_t step_end, std::byte* tiles);
}  // namespace amx

}  // namespace indexshare
