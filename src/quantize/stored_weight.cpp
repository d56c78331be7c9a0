// SPDX-License-Identifier: Apache-2.0
#include "quantize/stored_weight.h"

#include <fmt/ranges.h>

#include "base/check.h"

namespace indexshare {

namespace {

constexpr int64_t kScaleBlock = 128;

int64_t blocks(int64_t n) { return (n + kScaleBlock - 1) / kScaleBlock; }

}  // namespace

StoredWeight stored_weight(const Checkpoint& checkpoint, const TensorView& values) {
  if (values.dtype != DType::f8_e4m3) return {&values, nullptr};
  const TensorView* scale = checkpoint.find(values.name + "_scale_inv");
  const std::vector<int64_t> shape = {blocks(values.shape[0]), blocks(values.shape[1])};
  if (!scale || scale->dtype != DType::f32 || scale->shape != shape)
    fail(ErrorCode::unsupported, "{}: {}: expected {}_scale_inv, f32 [{}], beside it, found {}",
         checkpoint.file_of(values.name).string(), values.name, values.name, fmt::join(shape, ", "),
         scale ? fmt::format("{} [{}]", dtype_name(scale->dtype), fmt::join(scale->shape, ", ")) : "none");
  return {&values, scale};
}

void StoredWeight::read_row(int64_t row, float* row_values) const {
  const int64_t first = row * cols();
  if (values->dtype == DType::bf16) {  // what most models are: at() asks for the type at every element
    const auto* bits = reinterpret_cast<const uint16_t*>(values->data) + first;
    for (int64_t c = 0; c < cols(); ++c) row_values[c] = bf16_to_f32(bits[c]);
  } else {
    for (int64_t c = 0; c < cols(); ++c) row_values[c] = values->at(first + c);
  }
  if (!scale) return;
  const int64_t first_scale = row / kScaleBlock * blocks(cols());
  for (int64_t c = 0; c < cols(); ++c) row_values[c] *= scale->at(first_scale + c / kScaleBlock);
}

}  // namespace indexshare
