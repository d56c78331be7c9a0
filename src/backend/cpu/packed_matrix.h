// SPDX-License-Identifier: Apache-2.0
// A weight as the products read it, in panels of 32 output columns of which the last is padded with zeros.
// Two layouts, chosen at load by how products are computed:
//
// columns, for f32 arithmetic: [out/32][in][32], and scales [out/32][ceil(in/group)][32] f32 behind. Within
// the 32 elements of one `in`:
//   f32, f16, int8   column j at j
//   bf16             columns j and j + 16 side by side: a 32-bit lane widens into two vectors by shift and
//   mask f8_e4m3          likewise in 16-bit lanes int4             columns j and j + 16 in the low and the
//   high half of byte j
//
// tiles, for tile and integer products: a panel is a sequence of groups of columns of `in`; a group is its 32
// scales f32 (none for bf16), then its steps. A step is 64 bytes of `in` (32 bf16 or f8 before widening, 64
// codes) of 32 columns: two tiles of 16 rows x 16 columns x 4 bytes as tiles-inl.h wants them. f8 and int4
// tiles are half as large and widened before use:
//   f8_e4m3   tile rows 2r and 2r + 1 interleaved by 8 elements, as unpack instructions take them apart
//   int4      byte b of rows r and r + 8 in the low and the high half of byte b of row r
#pragma once

#include <memory>

#include "backend/backend.h"
#include "backend/cpu/memory.h"

namespace indexshare {

class ThreadPool;
class WeightSource;

constexpr int64_t kPanelWidth = 32;
constexpr int64_t kScaleBlock = 128;

enum class WeightElement { f32, f16, bf16, f8_e4m3, int8, int4 };

/// What the elements of both factors are when they meet; sums are f32, or exact integers and then f32.
enum class ProductArithmetic {
  f32,   // columns of any weight
  bf16,  // tiles, where KernelPath::tiles: weights rounded to bf16 (f8 and integers after their scale), so is
         // x
  int8,  // tiles of integer weights; x quantised by group in so many bits
  int16,
};

constexpr bool is_integer(WeightElement e) { return e == WeightElement::int8 || e == WeightElement::int4; }

/// Columns of `in` that are summed, then scaled.
constexpr int64_t group_columns(WeightElement e) { return e == WeightElement::int4 ? 64 : kScaleBlock; }
constexpr int64_t step_columns(WeightElement e) { return is_integer(e) ? 64 : 32; }
constexpr int64_t steps_per_group(WeightElement e) { return group_columns(e) / step_columns(e); }

/// Bytes of a step as stored.
constexpr int64_t step_bytes(WeightElement e) {
  return e == WeightElement::f8_e4m3 || e == WeightElement::int4 ? 1024 : 2048;
}
constexpr int64_t group_header_bytes(WeightElement e) {
  return e == WeightElement::bf16 ? 0 : kPanelWidth * static_cast<int64_t>(sizeof(float));
}
constexpr int64_t group_bytes(WeightElement e) {
  return group_header_bytes(e) + steps_per_group(e) * step_bytes(e);
}

class PackedMatrix final : public Matrix {
 public:
  /// @param tiles  whether the backend may run tile kernels
  /// @throws Error{internal} where shapes, dtype and scales do not fit together
  PackedMatrix(const MatrixSource& source, ThreadPool& pool, WeightArena& arena, bool tiles);

  int64_t out_dim() const override { return out_dim_; }
  int64_t in_dim() const override { return in_dim_; }
  size_t num_bytes() const override { return num_bytes_; }

  WeightElement element() const { return element_; }
  ProductArithmetic arithmetic() const { return arithmetic_; }
  int64_t num_panels() const { return (out_dim_ + kPanelWidth - 1) / kPanelWidth; }
  int64_t num_groups() const { return (in_dim_ + group_columns(element_) - 1) / group_columns(element_); }
  int64_t num_steps() const { return (in_dim_ + step_columns(element_) - 1) / step_columns(element_); }
  size_t panel_bytes() const;
  const std::byte* panels() const { return memory_.get(); }
  const float* scales() const { return scales_; }  // of columns; includes kF8Bias. nullptr where none

  /// W[out, :] in f32. @param row [in_dim]
  void read_row(int64_t out, float* row) const;

  /// The kernels widen columns of e4m3 through f16, whose exponent bias differs: codes come out 2^-8 too
  /// small.
  static constexpr float kF8Bias = 256.0f;

 private:
  struct CodePlace {
    size_t offset;  // of the byte within the panel
    bool high;      // int4: in its high half
  };

  bool in_columns() const { return arithmetic_ == ProductArithmetic::f32; }
  void pack_panel(const WeightSource& source, int64_t panel);
  void pack_columns(const WeightSource& source, int64_t panel);
  void pack_tiles(const WeightSource& source, int64_t panel);
  void pack_block_scales(const WeightSource& source, int64_t panel);
  void pack_codes(const WeightSource& source, int64_t panel);
  CodePlace code_place(int64_t column, int64_t in) const;
  void set_code(int64_t panel, int64_t column, int64_t in, int8_t code);
  size_t tile_offset(int64_t column, int64_t in) const;
  float at(int64_t panel, int64_t column, int64_t in) const;  // without its scale
  float* scale_of(int64_t panel, int64_t group) const;        // [32]

  WeightElement element_;
  ProductArithmetic arithmetic_;
  int64_t out_dim_ = 0, in_dim_ = 0;
  size_t num_bytes_ = 0;
  std::shared_ptr<std::byte> memory_;  // panels, then the scales of columns
  float* scales_ = nullptr;            // [num_panels, num_groups, 32]
};

/// A table that embed() reads where it lies in the mapped file, [out_dim, in_dim].
class MappedMatrix final : public Matrix {
 public:
  explicit MappedMatrix(const MatrixSource& source);

  int64_t out_dim() const override { return source_.weight.shape[0]; }
  int64_t in_dim() const override { return source_.weight.shape[1]; }
  size_t num_bytes() const override { return 0; }

  void read_row(int64_t out, float* row) const;

 private:
  MatrixSource source_;
};

}  // namespace indexshare
