// SPDX-License-Identifier: Apache-2.0
// A weight in panels of 32 output columns, [out/32][in][32] in the checkpoint's own dtype; the last panel is
// padded with zeros. Within the 32 elements of one `in`:
//   f32, f16   column j at j
//   bf16       columns j and j + 16 side by side: a 32-bit lane widens into two vectors by shift and mask
//   f8_e4m3    likewise in 16-bit lanes
// For f8_e4m3, scales [out/32][ceil(in/128)][32] f32 hold each column's own block scale.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "backend/cpu/memory.h"

namespace indexshare {

class ThreadPool;

constexpr int64_t kPanelWidth = 32;
constexpr int64_t kScaleBlock = 128;

class PackedMatrix final : public Matrix {
 public:
  /// @throws Error{internal} where shapes, dtype and scales do not fit together
  PackedMatrix(const MatrixSource& source, ThreadPool& pool, WeightArena& arena);

  int64_t out_dim() const override { return out_dim_; }
  int64_t in_dim() const override { return in_dim_; }
  size_t num_bytes() const override { return num_bytes_; }

  DType dtype() const { return dtype_; }
  int64_t num_panels() const { return (out_dim_ + kPanelWidth - 1) / kPanelWidth; }
  size_t panel_bytes() const { return static_cast<size_t>(in_dim_ * kPanelWidth) * dtype_bytes(dtype_); }
  const std::byte* panels() const { return memory_.get(); }
  const float* scales() const { return scales_; }  // nullptr but for f8; includes kF8Bias

  /// W[out, :] in f32. @param row [in_dim]
  void read_row(int64_t out, float* row) const;

  /// The kernels widen e4m3 through f16, whose exponent bias differs: codes come out 2^-8 too small.
  static constexpr float kF8Bias = 256.0f;

 private:
  void pack_panel(const MatrixSource& source, int64_t panel);
  void pack_scales(const MatrixSource& source, int64_t panel);

  DType dtype_;
  int64_t out_dim_, in_dim_;
  size_t num_bytes_;
  std::shared_ptr<std::byte> memory_;  // panels, then scales
  float* scales_ = nullptr;            // [num_panels, ceil(in/128), 32]
};

/// A table that embed() reads where it lies in the mapped file, [out_dim, in_dim].
class MappedMatrix final : public Matrix {
 public:
  explicit MappedMatrix(const MatrixSource& source);

  int64_t out_dim() const override { return weight_.shape[0]; }
  int64_t in_dim() const override { return weight_.shape[1]; }
  size_t num_bytes() const override { return 0; }

  void read_row(int64_t out, float* row) const;

 private:
  TensorView weight_, scale_;
};

}  // namespace indexshare
