// SPDX-License-Identifier: Apache-2.0
#include "backend/reference/reference_matrix.h"

#include <algorithm>
#include <vector>

#include "backend/quantise.h"
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
  const bool has_scales = weight_.dtype == DType::f8_e4m3 || weight_.dtype == DType::i8;
  ENSURE(has_scales == (scale_.data != nullptr), "{}: {} with{} scales", weight_.name,
         dtype_name(weight_.dtype), scale_.data ? "" : "out");
  ENSURE(weight_.dtype != DType::i8 || (source.format != WeightFormat::as_stored && !transpose_),
         "{}: codes without a format, or transposed", weight_.name);
  if (weight_.dtype == DType::f8_e4m3)
    ENSURE(scale_.dtype == DType::f32 && scale_.shape.size() == 2 &&
               scale_.shape[0] >= num_blocks(scale_row_offset_ + rows_) &&
               scale_.shape[1] == num_blocks(cols_),
           "{}: scales do not fit [{}, {}] at row {}", weight_.name, rows_, cols_, scale_row_offset_);
  if (source.format != WeightFormat::as_stored) quantise(source.format);
}

void ReferenceMatrix::quantise(WeightFormat format) {
  const bool int8 = format == WeightFormat::int8;
  const int64_t group = int8 ? kInt8WeightGroup : kInt4WeightGroup, in_dim = this->in_dim();
  std::vector<float> values(static_cast<size_t>(out_dim() * in_dim));
  std::vector<int8_t> codes(static_cast<size_t>(group));
  for (int64_t out = 0; out < out_dim(); ++out)
    for (int64_t begin = 0; begin < in_dim; begin += group) {
      float* x = values.data() + out * in_dim + begin;
      const int64_t count = std::min(group, in_dim - begin);
      if (weight_.dtype == DType::i8) {
        for (int64_t i = 0; i < count; ++i)
          x[i] = static_cast<float>(reinterpret_cast<const int8_t*>(weight_.data)[out * cols_ + begin + i]) *
                 scale_.at(out * ((cols_ + group - 1) / group) + begin / group);
        continue;
      }
      for (int64_t i = 0; i < count; ++i) x[i] = stored(out, begin + i);
      const float scale =
          int8 ? quantise_int8(x, count, codes.data()) : quantise_int4(x, count, codes.data());
      for (int64_t i = 0; i < count; ++i) x[i] = static_cast<float>(codes[i]) * scale;
    }
  quantised_ = std::move(values);
}

float ReferenceMatrix::at(int64_t out, int64_t in) const {
  return quantised_.empty() ? stored(out, in) : quantised_[out * in_dim() + in];
}

float ReferenceMatrix::stored(int64_t out, int64_t in) const {
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
