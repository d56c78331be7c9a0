// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/weight_source.h"

#include <vector>

#include "backend/quantise.h"
#include "base/check.h"

namespace indexshare {

namespace {

constexpr int64_t kScaleBlock = 128;

int64_t num_blocks(int64_t n, int64_t block = kScaleBlock) { return (n + block - 1) / block; }

void check_scales(const MatrixSource& source) {
  const TensorView& w = source.weight;
  const bool f8 = w.dtype == DType::f8_e4m3, codes = w.dtype == DType::i8;
  ENSURE((f8 || codes) == (source.scale_inv.data != nullptr), "{}: {} with{} scales", w.name,
         dtype_name(w.dtype), source.scale_inv.data ? "" : "out");
  if (!f8 && !codes) return;
  const std::vector<int64_t>& scales = source.scale_inv.shape;
  ENSURE(source.scale_inv.dtype == DType::f32 && scales.size() == 2, "{}: {} scales in {} dimensions", w.name,
         dtype_name(source.scale_inv.dtype), scales.size());
  const int64_t rows = source.scale_row_offset + w.shape[0], cols = w.shape[1];
  ENSURE(scales[0] >= (codes ? rows : num_blocks(rows)) &&
             scales[1] == num_blocks(cols, codes ? scale_group_of(source.format) : kScaleBlock),
         "{}: scales do not fit [{}, {}] at row {}", w.name, w.shape[0], w.shape[1], source.scale_row_offset);
  ENSURE(!source.transpose || (source.scale_row_offset == 0 && !codes), "{}: cut or codes, and transposed",
         w.name);
}

}  // namespace

int64_t scale_group_of(WeightFormat format) {
  return format == WeightFormat::int4 ? kInt4WeightGroup : kInt8WeightGroup;
}

WeightSource::WeightSource(const MatrixSource& source) : source_(source) {
  const TensorView& w = source.weight;
  ENSURE(w.shape.size() == 2, "{}: expected 2 dimensions, found {}", w.name, w.shape.size());
  ENSURE(w.dtype == DType::f32 || w.dtype == DType::f16 || w.dtype == DType::bf16 ||
             w.dtype == DType::f8_e4m3 || (w.dtype == DType::i8 && source.format != WeightFormat::as_stored),
         "{}: {} weights", w.name, dtype_name(w.dtype));
  check_scales(source);
  out_stride_ = source.transpose ? 1 : w.shape[1];
  in_stride_ = source.transpose ? w.shape[1] : 1;
}

float WeightSource::block_scale(int64_t out, int64_t in) const {
  const int64_t row = source_.transpose ? in : out, col = source_.transpose ? out : in;
  return source_.scale_inv.at((source_.scale_row_offset + row) / kScaleBlock *
                                  num_blocks(source_.weight.shape[1]) +
                              col / kScaleBlock);
}

void WeightSource::read(int64_t out, int64_t begin, int64_t count, float* to) const {
  const TensorView& w = source_.weight;
  for (int64_t i = 0; i < count; ++i) to[i] = w.at(index(out, begin + i));
  if (w.dtype == DType::f8_e4m3)
    for (int64_t i = 0; i < count; ++i) to[i] *= block_scale(out, begin + i);
}

float WeightSource::quantise(int64_t out, int64_t begin, int64_t count, int8_t* codes) const {
  const int64_t group = scale_group_of(source_.format);
  if (source_.weight.dtype == DType::i8) {
    const auto* from = reinterpret_cast<const int8_t*>(source_.weight.data) + index(out, begin);
    for (int64_t i = 0; i < count; ++i) codes[i] = from[i];
    return source_.scale_inv.at((source_.scale_row_offset + out) * num_blocks(in_dim(), group) +
                                begin / group);
  }
  float values[kInt8WeightGroup];
  read(out, begin, count, values);
  return source_.format == WeightFormat::int8 ? quantise_int8(values, count, codes)
                                              : quantise_int4(values, count, codes);
}

}  // namespace indexshare
