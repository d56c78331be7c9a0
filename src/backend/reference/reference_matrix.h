// SPDX-License-Identifier: Apache-2.0
// A weight as it lies in the checkpoint: row-major f32, f16, bf16, or e4m3 with one f32 scale per 128x128
// block (the last block of either axis may be partial), read the other way round where transposed, never
// copied. One to be quantised, or quantised before, is kept as the f32 values that its codes stand for.
#pragma once

#include "backend/backend.h"

namespace indexshare {

class ReferenceMatrix final : public Matrix {
 public:
  explicit ReferenceMatrix(const MatrixSource& source);

  int64_t out_dim() const override { return transpose_ ? cols_ : rows_; }
  int64_t in_dim() const override { return transpose_ ? rows_ : cols_; }
  size_t num_bytes() const override { return quantised_.size() * sizeof(float); }

  /// Element W[out, in], dequantised.
  float at(int64_t out, int64_t in) const;

 private:
  float stored(int64_t out, int64_t in) const;
  void quantise(WeightFormat format);

  TensorView weight_;  // [rows, cols]
  TensorView scale_;   // [ceil(rows/128), ceil(cols/128)] f32, f8 only
  int64_t rows_, cols_;
  int64_t scale_row_offset_;
  bool transpose_;
  std::vector<float> quantised_;  // [out, in] where the weight is int8 or int4
};

/// y = x W^T, each element the sum over `in` ascending.
/// @param x [num_rows, in_dim]  @param y [num_rows, out_dim], not overlapping x; strides in elements.
void multiply(const ReferenceMatrix& weight, const float* x, int64_t x_stride, int64_t num_rows, float* y,
              int64_t y_stride);

}  // namespace indexshare
