// SPDX-License-Identifier: Apache-2.0
// For sparse_attention_amx.cpp alone: what the steps of attention over a block of cached rows share.
#pragma once

#include <cstdint>

#include "backend/cpu/sparse_attention_kernel.h"

#include "backend/cpu/tiles-inl.h"  // last, with what builds on it

#include "backend/cpu/cached_row_tiles-inl.h"

#ifdef INDEXSHARE_HAS_TILES

namespace indexshare::amx {

constexpr int64_t kKeyTiles = kKeyBlock / kTileKeys;  // of a block

// Compilers take tile loads for instructions that read no memory: what was stored before must not come later.
inline void stores_are_done() { asm volatile("" ::: "memory"); }

inline int64_t num_dim_tiles(const AttentionShape& shape) { return (shape.dim + 31) / 32; }  // of 32

// Heads are multiplied 16 at a time where there are no more, else 32: of the last 32 a state may have 16.
inline int64_t num_head_tiles(const AttentionShape& shape) {
  return shape.heads == 16 ? 1 : (shape.heads + 31) / 32 * 2;
}

struct Scratch16 {
  Scratch16(const AttentionShape& shape, std::byte* memory) {
    const auto take = [&](int64_t bytes) {
      std::byte* taken = memory + used;
      used += (bytes + 63) / 64 * 64;
      return taken;
    };
    ring = take(kRingBytes);
    weights = take(num_head_tiles(shape) * kKeyTiles * kTileBytes);
    logits = reinterpret_cast<float*>(take(num_head_tiles(shape) * kKeyBlock * 64));
    keep = reinterpret_cast<float*>(take(shape.heads * 4));
    row_at = reinterpret_cast<const std::byte**>(take(kKeyBlock * static_cast<int64_t>(sizeof(void*))));
    zeros = take(static_cast<int64_t>(shape.rows.row_bytes) + 64);
  }

  static constexpr int64_t kRingBytes = 18 * kTileBytes;

  std::byte* ring;           // of tiles gathered from rows
  std::byte* weights;        // [heads/16][8] tiles of 16 heads x 32 keys bf16
  float* logits;             // [heads/16][256][16]
  float* keep;               // [heads] factors of the earlier state
  const std::byte** row_at;  // [256] the block's rows, then zeros
  std::byte* zeros;          // a cached row of zeros
  int64_t used = 0;
};

/// The rows of the next block, fetched to the second cache one by one, evenly over the steps of this one (a
/// step: four products), where Rows::kFetchAhead.
template <class Rows>
class Ahead {
 public:
  Ahead(const AttentionShape& shape, const KeyBlock& block)
      : block_(block),
        row_bytes_(static_cast<int64_t>(shape.rows.row_bytes)),
        num_steps_(shape.heads == 16
                       ? kKeyTiles / 2 * num_dim_tiles(shape) + kKeyTiles * shape.latent / 64
                       : kKeyTiles * num_head_tiles(shape) / 2 * (num_dim_tiles(shape) + shape.latent / 32)) {
  }

  void step() {
    if constexpr (!Rows::kFetchAhead) return;
    for (due_ += block_.size; due_ >= num_steps_ && row_ < block_.size; due_ -= num_steps_) {
      const std::byte* row = block_.rows[row_++];
      for (const std::byte* line = row; line < row + row_bytes_; line += 64) _mm_prefetch(line, _MM_HINT_T1);
    }
  }

 private:
  const KeyBlock& block_;
  int64_t row_bytes_, num_steps_, row_ = 0, due_ = 0;
};

inline void zero_sums() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

constexpr int64_t kTileFloats = kTileBytes / 4;  // [16, 16]

/// Four tiles of sums somewhere in memory, two by two, the first or all of them.
struct SumTiles {
  SumTiles(float* first, float* second) : at{first, second} {}
  explicit SumTiles(float* first) : SumTiles(first, first + 2 * kTileFloats) {}

  void load(bool all = true) const {
    _tile_loadd(0, at[0], 64);
    _tile_loadd(1, at[0] + kTileFloats, 64);
    if (!all) return;
    _tile_loadd(2, at[1], 64);
    _tile_loadd(3, at[1] + kTileFloats, 64);
  }
  void store(bool all = true) const {
    _tile_stored(0, at[0], 64);
    _tile_stored(1, at[0] + kTileFloats, 64);
    if (!all) return;
    _tile_stored(2, at[1], 64);
    _tile_stored(3, at[1] + kTileFloats, 64);
  }

  float* at[2];
};

}  // namespace indexshare::amx

#endif
