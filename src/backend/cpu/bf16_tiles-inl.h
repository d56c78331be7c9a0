// SPDX-License-Identifier: Apache-2.0
// For linear_tiles_amx.cpp alone: products with bf16 weights. They need no scales, so the sums of two row
// tiles x a panel stay in four tiles of C over a chunk of `in`, both parts of x in the same sum; between
// chunks they lie in y, which is exact: no cut shows in the bits. A chunk of two row tiles stays in the first
// cache while panels pass, whose chunks stay in the second while all rows do. A single row tile passes over
// each panel at once, since the weights come from memory.
#pragma once

#include <cstring>

#include "backend/cpu/linear_kernels.h"

#include "backend/cpu/tiles-inl.h"  // last

#ifdef INDEXSHARE_HAS_TILES

namespace indexshare::amx {

template <int kParts>
class Bf16Run {
 public:
  explicit Bf16Run(const ProductShare& share)
      : share_(share),
        product_(*share.product),
        weight_(*product_.weight),
        num_steps_(weight_.num_steps()),
        a_stride_(num_steps_ * kTileBytes),
        edge_(*reinterpret_cast<Edge*>(share.scratch)) {
    const ActivationLayout layout(weight_, true);
    a_ = product_.converted.codes + static_cast<size_t>(share.row_begin / kTileRows) * layout.block_bytes();
  }

  void multiply() {
    const bool one_tile = share_.num_rows <= kTileRows;
    const int64_t steps = one_tile ? num_steps_ : kSteps;
    const int64_t panels = one_tile ? 1 : kHeldPanels;
    for (int64_t step = 0; step < num_steps_; step += steps)
      for (int64_t panel = share_.panel_begin; panel < share_.panel_end; panel += panels)
        multiply_chunk(
            {step, least(step + steps, num_steps_), panel, least(panel + panels, share_.panel_end)});
    drain();
  }

 private:
  static constexpr int64_t kSteps = 16 / kParts;         // 32 KiB of two row tiles, 64 products of a block
  static constexpr int64_t kStepBytes = 2 * kTileBytes;  // of a panel
  static constexpr int64_t kHeldPanels = (int64_t{512} << 10) / (kSteps * kStepBytes);

  static constexpr int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

  // A block of y that has no room for whole tiles.
  struct alignas(64) Edge {
    float values[2 * kTileRows][kPanelWidth];
  };
  struct Chunk {
    int64_t step_begin, step_end;
    int64_t panel_begin, panel_end;
  };
  struct Target {
    float* y = nullptr;
    int64_t stride = 0;  // floats
  };

  void multiply_chunk(const Chunk& chunk) {
    add_ = chunk.step_begin > 0;
    for (int64_t row = 0; row < share_.num_rows; row += 2 * kTileRows)
      for (int64_t panel = chunk.panel_begin; panel < chunk.panel_end; ++panel)
        multiply_block(chunk, row, panel);
  }

  void multiply_block(const Chunk& chunk, int64_t row, int64_t panel) {
    const int64_t rows = least(share_.num_rows - row, 2 * kTileRows);
    const int64_t columns = least(weight_.out_dim() - panel * kPanelWidth, kPanelWidth);
    const Target y{product_.y + (share_.row_begin + row) * product_.y_stride + panel * kPanelWidth,
                   product_.y_stride};
    if (rows == 2 * kTileRows && columns == kPanelWidth) return multiply_steps<2>(chunk, row, panel, y);
    drain();
    const Target edge{edge_.values[0], kPanelWidth};
    if (add_) copy(y, edge, rows, columns);
    asm volatile("" : : : "memory");  // tile loads do not tell the compiler that they read
    if (rows > kTileRows) {
      multiply_steps<2>(chunk, row, panel, edge);
    } else {
      multiply_steps<1>(chunk, row, panel, edge);
    }
    drain();
    copy(edge, y, rows, columns);
  }

  static void copy(const Target& from, const Target& to, int64_t rows, int64_t columns) {
    for (int64_t r = 0; r < rows; ++r)
      std::memcpy(to.y + r * to.stride, from.y + r * from.stride,
                  static_cast<size_t>(columns) * sizeof(float));
  }

  template <int kTiles>
  void multiply_steps(const Chunk& chunk, int64_t row, int64_t panel, const Target& target) {
    const std::byte* a = a_ + row / kTileRows * kParts * a_stride_ + chunk.step_begin * kTileBytes;
    const std::byte* b =
        weight_.panels() + static_cast<size_t>(panel) * weight_.panel_bytes() + chunk.step_begin * kStepBytes;
    multiply_step<kTiles, true>(a, b, target);
    for (int64_t step = chunk.step_begin + 1; step < chunk.step_end; ++step)
      multiply_step<kTiles, false>(a += kTileBytes, b += kStepBytes, target);
    held_.y = target.y;
    held_.stride = target.stride;
    held_tiles_ = kTiles;
  }

// A tile of C goes to the block before just when the next one needs it, so that products need not wait.
#define INDEXSHARE_EXCHANGE(tile)                                                         \
  if constexpr (kFirst) {                                                                 \
    if (held_tiles_ > tile / 2) _tile_stored(tile, place(held_, tile), held_.stride * 4); \
    if (add_) {                                                                           \
      _tile_loadd(tile, place(target, tile), target.stride * 4);                          \
    } else {                                                                              \
      _tile_zero(tile);                                                                   \
    }                                                                                     \
  }

  // Tiles: C 0..3, A 4 and 5, B 6 and 7.
  template <int kTiles, bool kFirst>
  [[gnu::always_inline]] void multiply_step(const std::byte* a, const std::byte* b, const Target& target) {
    _tile_loadd(6, b, 64);
    _tile_loadd(7, b + kTileBytes, 64);
    _tile_loadd(4, a, 64);
    INDEXSHARE_EXCHANGE(0)
    _tile_dpbf16ps(0, 4, 6);
    INDEXSHARE_EXCHANGE(1)
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kTiles == 2) {
      _tile_loadd(5, a + kParts * a_stride_, 64);
      INDEXSHARE_EXCHANGE(2)
      _tile_dpbf16ps(2, 5, 6);
      INDEXSHARE_EXCHANGE(3)
      _tile_dpbf16ps(3, 5, 7);
    }
    if constexpr (kParts == 1) return;
    _tile_loadd(4, a + a_stride_, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kTiles == 1) return;
    _tile_loadd(5, a + 3 * a_stride_, 64);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }

#undef INDEXSHARE_EXCHANGE

  static float* place(const Target& target, int64_t tile) {
    return target.y + tile / 2 * kTileRows * target.stride + tile % 2 * 16;
  }

  void drain() {
    if (held_tiles_ > 0) {
      _tile_stored(0, place(held_, 0), held_.stride * 4);
      _tile_stored(1, place(held_, 1), held_.stride * 4);
    }
    if (held_tiles_ > 1) {
      _tile_stored(2, place(held_, 2), held_.stride * 4);
      _tile_stored(3, place(held_, 3), held_.stride * 4);
    }
    held_tiles_ = 0;
  }

  const ProductShare& share_;
  const Product& product_;
  const PackedMatrix& weight_;
  const int64_t num_steps_, a_stride_;
  const std::byte* a_;
  Edge& edge_;
  Target held_;  // where C belongs
  int held_tiles_ = 0;
  bool add_ = false;  // to what y holds
};

}  // namespace indexshare::amx

#endif
