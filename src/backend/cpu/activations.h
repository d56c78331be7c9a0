// SPDX-License-Identifier: Apache-2.0
// The other factor of products with weights in tiles (packed_matrix.h): rows of x in 8-bit parts, converted
// once for all panels and products that share them, in blocks of 16 rows. With integer weights a row is
// quantised by groups of the weight's columns (quantise.h); with bf16 and f8 ones x = high + low, both bf16.
//   tile form      [row block][part] [step][16 rows][64 bytes], part 0 high; of int16 codes high is signed,
//   low not integer form   [row][step][64] int16, every four codes in the order 0 2 1 3, for paths without
//   tiles
#pragma once

#include "backend/cpu/product.h"

namespace indexshare {

constexpr int64_t kRowsOfBlock = 16;

class ActivationLayout {
 public:
  ActivationLayout(const PackedMatrix& weight, bool tile_form)
      : steps_(weight.num_steps()),
        groups_(is_integer(weight.element()) ? weight.num_groups() : 0),
        block_bytes_(kRowsOfBlock * 64 * steps_ * (tile_form ? weight.activation_parts() : 2)) {}

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
  int64_t steps_, groups_, block_bytes_;
};

/// Row block `block` of a product's x, into its converted.codes and .scales.
struct ConvertShare {
  const Product* product;
  int64_t block;
  bool tile_form;
};

}  // namespace indexshare
