// SPDX-License-Identifier: Apache-2.0
// A floating weight of a checkpoint read row by row as f32, FP8 multiplied by its block scales.
#pragma once

#include "checkpoint/checkpoint.h"

namespace indexshare {

struct StoredWeight {
  const TensorView* values = nullptr;  // [rows, cols]
  const TensorView* scale = nullptr;   // FP8: [ceil(rows/128), ceil(cols/128)] f32

  int64_t rows() const { return values->shape[0]; }
  int64_t cols() const { return values->shape[1]; }
  /// @param row_values [cols] out
  void read_row(int64_t row, float* row_values) const;
};

/// @throws Error{unsupported} where FP8 scales are missing or do not fit.
StoredWeight stored_weight(const Checkpoint& checkpoint, const TensorView& values);

}  // namespace indexshare
