// SPDX-License-Identifier: Apache-2.0
// Weights quantised before, in the "pack-quantized" layout of compressed-tensors. A Linear NAME.weight is
// three tensors: NAME.weight_packed, codes offset by 2^(bits - 1) side by side in 32-bit words, the first in
// the lowest bits; NAME.weight_scale, one factor for every group of columns of a row; NAME.weight_shape.
//   weight[r, c] = code[r, c] * scale[r, c / group]
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"

namespace indexshare {

/// One of the kinds of weight that config.json declares.
struct PackedScheme {
  int num_bits = 8;          // 4 | 8
  int64_t group_size = 128;  // columns that share a scale; 0: the whole row
  bool operator==(const PackedScheme&) const = default;
};

struct PackedWeight {
  const TensorView* words = nullptr;   // [rows, packed_words(cols)] i32
  const TensorView* scales = nullptr;  // [rows, ceil(cols / group_size)] f32, f16 or bf16
  const TensorView* shape = nullptr;   // [2] i64 or i32
  int64_t rows = 0, cols = 0;
  int num_bits = 8;
  int64_t group_size = 128;  // at most cols

  int64_t num_groups() const { return (cols + group_size - 1) / group_size; }
  /// @param codes [cols] out, in [-2^(bits-1), 2^(bits-1))
  void read_codes(int64_t row, int8_t* codes) const;
  /// @param values [cols] out: codes times scales
  void read_row(int64_t row, float* values) const;
};

/// "….weight" as a packed tensor's name begins: + "_packed", "_scale", "_shape".
bool has_packed_weight(const Checkpoint& checkpoint, const std::string& name);

/// The weight `name`, which has_packed_weight(), of the one scheme that its shapes fit.
/// @throws Error{unsupported} naming file and tensor where no scheme fits or something is missing.
PackedWeight find_packed_weight(const Checkpoint& checkpoint, const std::string& name,
                                std::span<const PackedScheme> schemes);

/// 32-bit words of a row of `cols` codes.
int64_t packed_words(int64_t cols, int num_bits);

/// @param codes [cols]  @param words [packed_words(cols, num_bits)] out
void pack_row(const int8_t* codes, int64_t cols, int num_bits, uint32_t* words);

}  // namespace indexshare
