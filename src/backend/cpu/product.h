// SPDX-License-Identifier: Apache-2.0
// y = x W^T as the CPU kernels take it.
#pragma once

#include "backend/cpu/packed_matrix.h"

namespace indexshare {

struct Product {
  const float* x = nullptr;  // [.., in_dim]
  int64_t x_stride = 0;
  const int32_t* x_rows =
      nullptr;  // [num_rows] which row of x each row of y is made from; nullptr = the same
  const PackedMatrix* weight = nullptr;
  float* y = nullptr;  // [num_rows, out_dim]
  int64_t y_stride = 0;
  int64_t num_rows = 0;
};

}  // namespace indexshare
