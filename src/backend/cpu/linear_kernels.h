// SPDX-License-Identifier: Apache-2.0
// The kernels behind linear() and experts(), each for one share of a product's work:
//   linear_float.cpp      f32 arithmetic, any weight whose activation_parts() are 0
//   linear_integer.cpp    int8 and int4 weights, integer dot products
//   linear_tiles_amx.cpp  weights in tiles, where KernelPath::tiles; integer ones give linear_integer.cpp's
//   bits
#pragma once

#include "backend/cpu/activations.h"
#include "backend/cpu/product.h"

namespace indexshare {

/// Panels [panel_begin, panel_end) of rows [row_begin, row_begin + num_rows) of a product. Weights with
/// activation parts: row_begin is a multiple of kRowsOfBlock.
struct ProductShare {
  const Product* product;
  int64_t row_begin, num_rows;
  int64_t panel_begin, panel_end;
  std::byte* scratch;  // [kShareScratchBytes], 64-byte aligned
};

constexpr size_t kShareScratchBytes = size_t{640} << 10;

// Largest num_rows of a share.
constexpr int64_t kFloatShareRows = 128;
constexpr int64_t kIntegerShareRows = 64;
constexpr int64_t kTileShareRows = 512;  // divided by activation_parts()

using ShareKernel = void (*)(const ProductShare& share);

ShareKernel float_share_kernel(size_t table_index);  // of an instruction set, KernelPath::table_index
ShareKernel integer_share_kernel(size_t table_index);
namespace amx {
void multiply_share(const ProductShare& share);
}

}  // namespace indexshare
