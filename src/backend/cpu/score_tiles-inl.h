// SPDX-License-Identifier: Apache-2.0
// For sparse_attention_amx.cpp alone: the logits of a block, 64 or 32 keys at a time.
#pragma once

#include <cstdint>

#include "backend/cpu/sparse_attention_kernel.h"

#include "backend/cpu/tiles-inl.h"  // last, with what builds on it

#include "backend/cpu/attention_tiles-inl.h"

#ifdef INDEXSHARE_HAS_TILES

namespace indexshare::amx {

/// The block's rows as left tiles, kTiles x 16 keys x 32 dims a step, kRing steps ahead of the products.
template <class Rows, int kTiles, int kRing>
class RowTiles {
 public:
  RowTiles(const AttentionShape& shape, const Scratch16& scratch, int64_t num_keys)
      : shape_(shape), scratch_(scratch), num_keys_(num_keys) {
    for (int64_t i = 0; i < kRing; ++i) {
      for (int64_t tile = 0; tile < kTiles; ++tile) gather(tile);
      advance();
    }
  }

  const std::byte* oldest() const { return to_; }
  const std::byte* next(const std::byte* step) const {
    return step + kStepBytes == scratch_.ring + kRing * kStepBytes ? scratch_.ring : step + kStepBytes;
  }

  /// One tile of a new step in the place of the oldest step's, which must be in its register. (A call, not
  /// inlined a dozen times: measured, int8 blocks a tenth faster.)
  [[gnu::noinline]] void gather(int64_t tile) {
    if (key_ < num_keys_)
      gather_rows<Rows>(shape_, scratch_.row_at + key_ + 16 * tile, d_, to_ + tile * kTileBytes);
  }
  void advance() {
    to_ = scratch_.ring + (next(to_) - scratch_.ring);
    d_ += 32;
    if (d_ >= shape_.dim) d_ = 0, key_ += 16 * kTiles;
  }

 private:
  static constexpr int64_t kStepBytes = kTiles * kTileBytes;
  static_assert(kRing * kStepBytes <= Scratch16::kRingBytes);

  const AttentionShape& shape_;
  const Scratch16& scratch_;
  int64_t num_keys_;
  std::byte* to_ = scratch_.ring;
  int64_t key_ = 0, d_ = 0;
};

// Of 16 heads: four tiles of keys, as one tile's products wait for one another.
template <class Rows>
void score_few_heads(const AttentionShape& shape, const JoinArgs& j, const Scratch16& scratch,
                     Ahead<Rows>& ahead) {
  RowTiles<Rows, 4, 3> rows(shape, scratch, j.now->size);
  for (int64_t key = 0; key < j.now->size; key += 64) {
    float* logits = scratch.logits + key * 16;
    const SumTiles sums(logits);
    zero_sums();
    const std::byte* queries = j.queries;
    for (int64_t d = 0; d < shape.dim; d += 32, queries += kTileBytes) {
      const std::byte* step = rows.oldest();
      stores_are_done();
      _tile_loadd(6, queries, 64);
      _tile_loadd(4, step, 64);
      _tile_dpbf16ps(0, 4, 6);
      rows.gather(0);
      _tile_loadd(5, step + kTileBytes, 64);
      _tile_dpbf16ps(1, 5, 6);
      rows.gather(1);
      _tile_loadd(7, step + 2 * kTileBytes, 64);
      _tile_dpbf16ps(2, 7, 6);
      rows.gather(2);
      _tile_loadd(4, step + 3 * kTileBytes, 64);
      _tile_dpbf16ps(3, 4, 6);
      rows.gather(3);
      rows.advance();
      ahead.step();
    }
    sums.store();
  }
}

// Of more: all heads, 32 at a time, meet as many dims of 32 keys as the ring holds, then the next dims. The
// ring is short, as it is read again behind as many queries as it holds dims: both fit the first cache.
template <class Rows>
void score_many_heads(const AttentionShape& shape, const JoinArgs& j, const Scratch16& scratch,
                      Ahead<Rows>& ahead) {
  constexpr int kRing = 6;
  constexpr int64_t kNextHeads = kKeyBlock * 16;
  const int64_t dim_tiles = num_dim_tiles(shape), head_tiles = num_head_tiles(shape);
  RowTiles<Rows, 2, kRing> rows(shape, scratch, j.now->size);
  for (int64_t key = 0; key < j.now->size; key += 32)
    for (int64_t begin = 0; begin < dim_tiles; begin += kRing) {
      const int64_t end = begin + kRing < dim_tiles ? begin + kRing : dim_tiles;
      const std::byte* oldest = rows.oldest();
      for (int64_t tile = 0; tile < head_tiles; tile += 2) {
        float* logits = scratch.logits + tile * kNextHeads + key * 16;
        const SumTiles sums(logits, logits + kNextHeads);
        const bool whole = 16 * (tile + 1) < shape.heads;
        begin == 0 ? zero_sums() : sums.load(whole);
        const std::byte *step = oldest, *queries = j.queries + (tile * dim_tiles + 2 * begin) * kTileBytes;
        const bool last = tile + 2 == head_tiles;
        for (int64_t k = begin; k < end; ++k, queries += 2 * kTileBytes, step = rows.next(step)) {
          stores_are_done();
          _tile_loadd(4, step, 64);
          _tile_loadd(6, queries, 64);
          _tile_loadd(5, step + kTileBytes, 64);
          _tile_dpbf16ps(0, 4, 6);
          if (last) rows.gather(0);
          _tile_dpbf16ps(1, 5, 6);
          if (whole) {
            _tile_loadd(7, queries + kTileBytes, 64);
            _tile_dpbf16ps(2, 4, 7);
            _tile_dpbf16ps(3, 5, 7);
          }
          if (last) {
            rows.gather(1);
            rows.advance();
          }
          ahead.step();
        }
        sums.store(whole);
      }
    }
}

}  // namespace indexshare::amx

#endif
