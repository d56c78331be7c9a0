// SPDX-License-Identifier: Apache-2.0
// y = x W^T as the CPU kernels take it.
#pragma once

#include "backend/cpu/packed_matrix.h"

namespace indexshare {

/// x in the form that products with weights in tiles take, see activations.h.
struct ConvertedRows {
  std::byte* codes = nullptr;
  float* scales = nullptr;  // [row tiles][groups][16], integer weights alone
};

struct Product {
  const float* x = nullptr;  // [.., in_dim]
  int64_t x_stride = 0;
  const int32_t* x_rows =
      nullptr;  // [num_rows] which row of x each row of y is made from; nullptr = the same
  const PackedMatrix* weight = nullptr;
  float* y = nullptr;  // [num_rows, out_dim]
  int64_t y_stride = 0;
  int64_t num_rows = 0;
  ConvertedRows converted = {};

  const float* x_row(int64_t row) const { return x + (x_rows ? x_rows[row] : row) * x_stride; }
};

}  // namespace indexshare
