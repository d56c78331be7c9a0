// SPDX-License-Identifier: Apache-2.0
#include "backend/reference/reference_matrix.h"

#include <algorithm>
#include <vector>

#include "base/check.h"

namespace indexshare {

namespace {
constexpr int64_t kScaleBlock = 128;
int64_t num_blocks(int64_t n) { return (n + kScaleBlock - 1) / kScaleBlock; }
}  // namespace

ReferenceMatrix::ReferenceMatrix(const MatrixSource& source)
    : weight_(source.weight),
      scale_(source.scale_inv),
      scale_row_offset_(source.scale_row_offset),
      transpose_(source.transpose) {
  ENSURE(weight_.shape.size() == 2, "{}: expected 2 dimensions, found {}", weight_.name,
         weight_.shape.size());
  rows_ = weight_.shape[0];
  cols_ = weight_.shape[1];
  const bool quantised = weight_.dtype == DType::f8_e4m3;
  ENSURE(quantised == (scale_.data != nullptr), "{}: {} with{} scales", weight_.name,
         dtype_name(weight_.dtype), scale_.data ? "" : "out");
  if (quantised)
    ENSURE(scale_.dtype == DType::f32 && scale_.shape.size() == 2 &&
               scale_.shape[0] >= num_blocks(scale_row_offset_ + rows_) &&
               scale_.shape[1] == num_blocks(cols_),
           "{}: scales do not fit [{}, {}] at row {}", weight_.name, rows_, cols_, scale_row_offset_);
}

float ReferenceMatrix::at(int64_t out, int64_t in) const {
  const int64_t row = transpose_ ? in : out, col = transpose_ ? out : in;
  const float value = weight_.at(row * cols_ + col);
  if (weight_.dtype != DType::f8_e4m3) return value;
  return value * scale_.at((scale_row_offset_ + row) / kScaleBlock * num_blocks(cols_) + col / kScaleBlock);
}

void multiply(const ReferenceMatrix& weight, const float* x, int64_t x_stride, int64_t num_rows, float* y,
              int64_t y_stride) {
  constexpr int64_t kTile =
      64;  // outputs dequantised at once, side by side so that the compiler can vectorise
  const int64_t in_dim = weight.in_dim(), out_dim = weight.out_dim();
  std::vector<float> tile(static_cast<size_t>(num_rows > 0 ? in_dim * kTile : 0));  // [in_dim, kTile]
  for (int64_t begin = 0; begin < out_dim && num_rows > 0; begin += kTile) {
    const int64_t size = std::min(kTile, out_dim - begin);
    for (int64_t o = 0; o < size; ++o)
      for (int64_t i = 0; i < in_dim; ++i) tile[i * kTile + o] = weight.at(begin + o, i);
    for (int64_t row = 0; row < num_rows; ++row) {
      float sums[kTile] = {};
      for (int64_t i = 0; i < in_dim; ++i)
        for (int64_t o = 0; o < kTile; ++o) sums[o] += x[row * x_stride + i] * tile[i * kTile + o];
      std::copy_n(sums, size, y + row * y_stride + begin);
    }
  }
}

}  // namespace indexshare
