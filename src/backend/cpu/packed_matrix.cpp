// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/packed_matrix.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/check.h"
#include "base/thread_pool.h"

namespace indexshare {

namespace {

int64_t num_blocks(int64_t n) { return (n + kScaleBlock - 1) / kScaleBlock; }

void check(const MatrixSource& source) {
  const TensorView& w = source.weight;
  ENSURE(w.shape.size() == 2, "{}: expected 2 dimensions, found {}", w.name, w.shape.size());
  ENSURE(
      w.dtype == DType::f32 || w.dtype == DType::f16 || w.dtype == DType::bf16 || w.dtype == DType::f8_e4m3,
      "{}: {} weights", w.name, dtype_name(w.dtype));
  const bool quantised = w.dtype == DType::f8_e4m3;
  ENSURE(quantised == (source.scale_inv.data != nullptr), "{}: {} with{} scales", w.name, dtype_name(w.dtype),
         source.scale_inv.data ? "" : "out");
  if (!quantised) return;
  const std::vector<int64_t>& scales = source.scale_inv.shape;
  ENSURE(source.scale_inv.dtype == DType::f32 && scales.size() == 2 &&
             scales[0] >= num_blocks(source.scale_row_offset + w.shape[0]) &&
             scales[1] == num_blocks(w.shape[1]),
         "{}: scales do not fit [{}, {}] at row {}", w.name, w.shape[0], w.shape[1], source.scale_row_offset);
  ENSURE(!source.transpose || source.scale_row_offset == 0, "{}: cut and transposed", w.name);
}

// Place of column `column` (0..31) among the 32 elements of one `in`.
int64_t element_of(DType dtype, int64_t column) {
  const bool paired = dtype == DType::bf16 || dtype == DType::f8_e4m3;
  return paired ? column % 16 * 2 + column / 16 : column;
}

// to[in * 32 + element] = from[column, in], [columns, in_dim] -> [in_dim, 32].
template <class T>
void transpose_panel(const T* from, int64_t column_stride, int64_t in_stride, int64_t num_columns,
                     int64_t in_dim, DType dtype, T* to) {
  constexpr int64_t kBlock =
      64;  // a destination block of 64 x 32 stays in the first cache while columns fill it
  for (int64_t begin = 0; begin < in_dim; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, in_dim);
    for (int64_t c = 0; c < num_columns; ++c) {
      const T* source = from + c * column_stride;
      T* target = to + element_of(dtype, c);
      for (int64_t i = begin; i < end; ++i) target[i * kPanelWidth] = source[i * in_stride];
    }
  }
}

}  // namespace

PackedMatrix::PackedMatrix(const MatrixSource& source, ThreadPool& pool, WeightArena& arena)
    : dtype_(source.weight.dtype) {
  check(source);
  out_dim_ = source.weight.shape[source.transpose ? 1 : 0];
  in_dim_ = source.weight.shape[source.transpose ? 0 : 1];
  const size_t weight_bytes = panel_bytes() * static_cast<size_t>(num_panels());
  const bool quantised = dtype_ == DType::f8_e4m3;
  const size_t scale_bytes =
      quantised ? static_cast<size_t>(num_panels() * num_blocks(in_dim_) * kPanelWidth) * sizeof(float) : 0;
  num_bytes_ = weight_bytes + scale_bytes;  // weight_bytes is a multiple of 32
  memory_ = arena.allocate(num_bytes_);
  if (quantised) scales_ = reinterpret_cast<float*>(memory_.get() + weight_bytes);
  const int64_t grain = std::max<int64_t>(1, (1 << 20) / std::max<int64_t>(1, in_dim_ * kPanelWidth));
  pool.parallel_for(num_panels(), grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t panel = begin; panel < end; ++panel) {
      if (quantised) pack_scales(source, panel);
      pack_panel(source, panel);
    }
  });
}

void PackedMatrix::pack_panel(const MatrixSource& source, int64_t panel) {
  const int64_t first = panel * kPanelWidth, columns = std::min(kPanelWidth, out_dim_ - first);
  const int64_t column_stride = source.transpose ? 1 : in_dim_, in_stride = source.transpose ? out_dim_ : 1;
  const size_t size = dtype_bytes(dtype_);
  const std::byte* from = source.weight.data + static_cast<size_t>(first * column_stride) * size;
  std::byte* to = memory_.get() + static_cast<size_t>(panel) * panel_bytes();
  const auto run = [&]<class T>(T) {
    transpose_panel(reinterpret_cast<const T*>(from), column_stride, in_stride, columns, in_dim_, dtype_,
                    reinterpret_cast<T*>(to));
  };
  if (size == 4) run(uint32_t{});
  if (size == 2) run(uint16_t{});
  if (size == 1) run(uint8_t{});
}

void PackedMatrix::pack_scales(const MatrixSource& source, int64_t panel) {
  const int64_t row_stride = num_blocks(source.weight.shape[1]);
  const auto* scale_inv = reinterpret_cast<const float*>(source.scale_inv.data);
  const auto* codes = reinterpret_cast<const uint8_t*>(source.weight.data);
  float* scales = scales_ + panel * num_blocks(in_dim_) * kPanelWidth;
  const int64_t first = panel * kPanelWidth, columns = std::min(kPanelWidth, out_dim_ - first);
  for (int64_t block = 0; block < num_blocks(in_dim_); ++block)
    for (int64_t c = 0; c < columns; ++c) {
      const int64_t out = first + c, out_block = (source.scale_row_offset + out) / kScaleBlock;
      float scale =
          scale_inv[source.transpose ? block * row_stride + out_block : out_block * row_stride + block];
      // The kernels take a NaN code for a number; a NaN in the block makes the column NaN either way.
      for (int64_t i = block * kScaleBlock; i < std::min(in_dim_, (block + 1) * kScaleBlock); ++i) {
        const uint8_t code = codes[source.transpose ? i * out_dim_ + out : out * in_dim_ + i];
        if ((code & 0x7f) == 0x7f) scale = std::numeric_limits<float>::quiet_NaN();
      }
      scales[block * kPanelWidth + c] = scale * kF8Bias;
    }
}

void PackedMatrix::read_row(int64_t out, float* row) const {
  const int64_t column = out % kPanelWidth, panel = out / kPanelWidth;
  const std::byte* data = panels() + static_cast<size_t>(panel) * panel_bytes();
  const float* scales = scales_ ? scales_ + panel * num_blocks(in_dim_) * kPanelWidth + column : nullptr;
  const int64_t element = element_of(dtype_, column);
  for (int64_t i = 0; i < in_dim_; ++i) {
    row[i] = load_as_f32(dtype_, data, i * kPanelWidth + element);
    if (scales) row[i] *= scales[i / kScaleBlock * kPanelWidth] / kF8Bias;
  }
}

MappedMatrix::MappedMatrix(const MatrixSource& source) : weight_(source.weight), scale_(source.scale_inv) {
  check(source);
  ENSURE(!source.transpose && source.scale_row_offset == 0,
         "{}: a lookup table is neither transposed nor cut", weight_.name);
}

void MappedMatrix::read_row(int64_t out, float* row) const {
  const int64_t cols = in_dim();
  for (int64_t i = 0; i < cols; ++i) {
    row[i] = weight_.at(out * cols + i);
    if (scale_.data) row[i] *= scale_.at(out / kScaleBlock * num_blocks(cols) + i / kScaleBlock);
  }
}

}  // namespace indexshare
