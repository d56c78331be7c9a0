// SPDX-License-Identifier: Apache-2.0
// y = x W^T as the CPU kernels take it.
#pragma once

#include "backend/cpu/packed_matrix.h"

namespace indexshare {

/// x quantised, see activations.h.
struct ConvertedRows {
  std::byte* codes = nullptr;
  float* scales = nullptr;  // [row blocks][groups][16]
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

/// Whether two products take the same rows in the same form.
inline bool same_x(const Product& a, const Product& b) {
  return a.x == b.x && a.x_stride == b.x_stride && a.x_rows == b.x_rows && a.num_rows == b.num_rows &&
         a.weight->element() == b.weight->element() && a.weight->in_dim() == b.weight->in_dim() &&
         a.weight->arithmetic() == b.weight->arithmetic();
}

}  // namespace indexshare
