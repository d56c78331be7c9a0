// SPDX-License-Identifier: Apache-2.0
// For sparse_attention_amx.cpp alone: a state's outputs += weights * latents of a block: 32 heads x 32 dims
// at a time, or 16 x 64.
#pragma once

#include <cstdint>

#include "backend/cpu/sparse_attention_kernel.h"

#include "backend/cpu/tiles-inl.h"  // last, with what builds on it

#include "backend/cpu/attention_tiles-inl.h"

#ifdef INDEXSHARE_HAS_TILES

namespace indexshare::amx {

/// The block's rows as right tiles, 32 keys x kTiles x 16 dims a step, kRing - 1 steps ahead of the products.
template <class Rows, int kTiles, int kRing>
class PairTiles {
 public:
  PairTiles(const AttentionShape& shape, const Scratch16& scratch, int64_t num_keys)
      : shape_(shape), scratch_(scratch), num_keys_(num_keys) {
    for (int64_t i = 0; i + 1 < kRing; ++i) {
      for (int64_t n = 0; n < 4; ++n) gather(n);
      advance();
    }
  }

  const std::byte* oldest() const { return next(to_); }
  const std::byte* next(const std::byte* step) const {
    return step + kStepBytes == scratch_.ring + kRing * kStepBytes ? scratch_.ring : step + kStepBytes;
  }

  /// A quarter of a new step, in the place of the one before the oldest. (A call for its size, as in
  /// RowTiles.)
  [[gnu::noinline]] void gather(int64_t quarter) {
    if (d_ >= shape_.latent) return;
    const std::byte* const* rows = scratch_.row_at + key_;
    if constexpr (kTiles == 2)
      return gather_pairs<Rows, 4>(shape_, rows + 8 * quarter, d_, to_ + 256 * quarter);
    const int64_t half = quarter / 2, rest = quarter % 2;
    gather_pairs<Rows, 8>(shape_, rows + 16 * rest, d_ + 32 * half, to_ + 2 * kTileBytes * half + 512 * rest);
  }
  void advance() {
    to_ = scratch_.ring + (next(to_) - scratch_.ring);
    key_ += kTileKeys;
    if (key_ >= num_keys_) key_ = 0, d_ += 16 * kTiles;
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

template <class Rows, bool kFewHeads>
void accumulate(const AttentionShape& shape, const JoinArgs& j, const Scratch16& scratch, Ahead<Rows>& ahead,
                float* output) {
  constexpr int64_t kHeads = kFewHeads ? 16 : 32, kDims = kFewHeads ? 64 : 32;
  PairTiles<Rows, kDims / 16, kFewHeads ? 3 : kKeyTiles + 1> pairs(shape, scratch, j.now->size);
  float* part = output;
  const float* end = j.first ? output : output + shape.heads * shape.latent;  // of what is to be fetched
  for (int64_t d = 0; d < shape.latent; d += kDims) {
    const std::byte* oldest = pairs.oldest();
    for (int64_t head = 0; head < shape.heads; head += kHeads) {
      const std::byte *step = oldest, *weights = scratch.weights + head / 16 * kKeyTiles * kTileBytes;
      const bool last = head + kHeads >= shape.heads, whole = kFewHeads || head + 16 < shape.heads;
      const SumTiles sums(part);
      j.first ? zero_sums() : sums.load(whole);
      part += whole ? 4 * kTileFloats : 2 * kTileFloats;
      const float* next = part;
      for (int64_t key = 0; key < j.now->size; key += kTileKeys, weights += kTileBytes) {
        stores_are_done();
        _tile_loadd(4, weights, 64);
        _tile_loadd(6, step, 64);
        _tile_dpbf16ps(0, 4, 6);
        if (last) pairs.gather(0);
        _tile_loadd(7, step + kTileBytes, 64);
        _tile_dpbf16ps(1, 4, 7);
        if (last) pairs.gather(1);
        if constexpr (kFewHeads) {
          _tile_loadd(6, step + 2 * kTileBytes, 64);
          _tile_dpbf16ps(2, 4, 6);
          if (last) pairs.gather(2);
          _tile_loadd(7, step + 3 * kTileBytes, 64);
          _tile_dpbf16ps(3, 4, 7);
        } else {
          if (whole) {
            _tile_loadd(5, weights + kKeyTiles * kTileBytes, 64);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
          }
          if (last) pairs.gather(2);
        }
        if (last) {
          pairs.gather(3);
          pairs.advance();
        }
        step = pairs.next(step);
        if (next < end)
          for (int i = 0; i < 8; ++i, next += 16) _mm_prefetch(next, _MM_HINT_T0);
        ahead.step();
      }
      sums.store(whole);
    }
  }
}

}  // namespace indexshare::amx

#endif
