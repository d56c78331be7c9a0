// SPDX-License-Identifier: Apache-2.0
// The other factor of integer products (ProductArithmetic::int8, int16): rows of x, quantised by groups of
// the weight's columns (quantise.h), once for all panels and products that share them, in blocks of 16 rows.
//   [row][step of 64 columns][64] int16 codes, every four in the order 0 2 1 3
#pragma once

#include "backend/cpu/product.h"

namespace indexshare {

constexpr int64_t kRowsOfBlock = 16;

class ActivationLayout {
 public:
  explicit ActivationLayout(const PackedMatrix& weight)
      : groups_(weight.num_groups()), block_bytes_(kRowsOfBlock * 128 * weight.num_steps()) {}

  static int64_t num_blocks(int64_t num_rows) { return (num_rows + kRowsOfBlock - 1) / kRowsOfBlock; }
  size_t block_bytes() const { return static_cast<size_t>(block_bytes_); }
  int64_t block_scales() const { return groups_ * kRowsOfBlock; }
  size_t num_bytes(int64_t num_rows) const {
    return static_cast<size_t>(num_blocks(num_rows)) *
           (block_bytes() + static_cast<size_t>(block_scales()) * 4);
  }
  ConvertedRows at(std::byte* memory, int64_t num_rows) const {
    return {memory,
            reinterpret_cast<float*>(memory + static_cast<size_t>(num_blocks(num_rows)) * block_bytes())};
  }

 private:
  int64_t groups_, block_bytes_;
};

/// Row block `block` of a product's x, into its converted.codes and .scales.
struct ConvertShare {
  const Product* product;
  int64_t block;
};

}  // namespace indexshare
