// SPDX-License-Identifier: Apache-2.0
// A weight as it lies in the checkpoint, read by element and by quantised group.
#pragma once

#include "backend/backend.h"

namespace indexshare {

/// Columns of a group of `format`.
int64_t scale_group_of(WeightFormat format);

class WeightSource {
 public:
  /// @throws Error{internal} where shapes, dtype and scales do not fit together
  explicit WeightSource(const MatrixSource& source);

  int64_t out_dim() const { return source_.weight.shape[source_.transpose ? 1 : 0]; }
  int64_t in_dim() const { return source_.weight.shape[source_.transpose ? 0 : 1]; }

  const std::byte* data() const { return source_.weight.data; }
  /// Where element (out, in) lies, counted in elements.
  int64_t index(int64_t out, int64_t in) const { return out * out_stride_ + in * in_stride_; }
  int64_t out_stride() const { return out_stride_; }
  int64_t in_stride() const { return in_stride_; }

  /// Elements (out, begin .. begin + count) of a floating weight, dequantised.
  void read(int64_t out, int64_t begin, int64_t count, float* to) const;

  /// The scale of the 128 x 128 block that holds (out, in), f8 only.
  float block_scale(int64_t out, int64_t in) const;

  /// Codes of a whole group in the source's format. @param begin first column, a multiple of the group
  /// @param codes [count]  @return their scale
  float quantise(int64_t out, int64_t begin, int64_t count, int8_t* codes) const;

 private:
  const MatrixSource& source_;
  int64_t out_stride_, in_stride_;
};

}  // namespace indexshare
