// SPDX-License-Identifier: Apache-2.0
// Products on tiles: two row tiles of x times a panel of 32 columns in four tiles of C, x and weights in
// bf16. What keeps the tile unit busy (measured): one factor in the first cache and one in the second, few
// lines from beyond, and a C that is stored while the next one's products run already. Hence:
//   - the share's rows of x are converted first, 2048 columns of as many rows as fill half of the second
//     cache, and stay there while all its panels pass;
//   - a chunk of a panel (16 KiB as bf16) stays in the first cache while kGroupRows rows pass; their C wait
//     there meanwhile, in `sums`, from which they are loaded again for the next chunk: no cut shows;
//   - a tile of C moves out just before its register is needed again, and vectors take it from there to y
//     while the products after that run.
// int8, int4 and f8 panels are widened once for all those rows, ahead of time (panel_tiles-inl.h).
#include <cstring>

#include "backend/cpu/linear_kernels.h"
#include "base/check.h"

#include "backend/cpu/tiles-inl.h"  // last, with what builds on it

#include "backend/cpu/panel_tiles-inl.h"

#ifdef INDEXSHARE_HAS_TILES

#pragma GCC diagnostic ignored \
    "-Wmaybe-uninitialized"  // false alarms of g++ 12's intrinsics (GCC bug 105593)

namespace indexshare::amx {

namespace {

constexpr int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

constexpr int64_t kDepth = kTileDepth / 32;

// Where y is larger its lines would be fetched from memory to be overwritten, and would drive out the rest.
constexpr int64_t kStreamedBytes = int64_t{4} << 20;

struct alignas(64) Sums {
  float values[4][kTileRows][16];  // as the tiles of C lie: two of columns for each of rows
};

struct alignas(64) Scratch {
  Sums sums[kGroupRows / kBlockRows];
  std::byte wide[2 * kDepth * kWideStep];
  std::byte x[kTileHeldBytes];  // [group][chunk][block][step][row tile], as it is read for each panel
};
static_assert(sizeof(Scratch) <= kShareScratchBytes);

template <WeightElement E>
class Run {
 public:
  explicit Run(const ProductShare& share)
      : share_(share),
        product_(*share.product),
        weight_(*product_.weight),
        scratch_(*reinterpret_cast<Scratch*>(share.scratch)),
        num_steps_(weight_.num_steps() * step_columns(E) / 32),
        panel_bytes_(weight_.panel_bytes()),
        stream_(product_.num_rows * product_.y_stride * 4 > kStreamedBytes && product_.y_stride % 16 == 0 &&
                reinterpret_cast<uintptr_t>(product_.y) % 64 == 0) {}

  void multiply() {
    for (int64_t step = 0; step < num_steps_; step += kDepth) {
      depth_ = {step, smaller(step + kDepth, num_steps_)};
      drain();
      hold_x();
      multiply_depth();
    }
    drain();
    if (stream_) _mm_sfence();
  }

 private:
  struct Steps {
    int64_t begin, end;
  };
  // Where the sums of a block go once all steps are summed.
  struct Target {
    float* y = nullptr;
    int64_t num_rows = 0, num_columns = 0;
    bool add = false;  // to what y holds
  };

  // The share before had the same rows where its product has the same x.
  void hold_x() {
    const HeldRows rows{&product_, share_.row_begin, share_.num_rows, depth_.begin};
    if (same_rows(*share_.held, rows)) return;
    convert_to_bf16(rows, depth_.end, scratch_.x);
    *share_.held = rows;
    asm volatile("" : : : "memory");  // tile loads do not tell the compiler that they read
  }

  // Panels are widened a depth at a time where several groups of rows use them, else a chunk at a time, so
  // that the tiles stay in the first cache.
  void multiply_depth() {
    const bool one_group = share_.num_rows <= kGroupRows;
    const int64_t unit = one_group ? kChunkSteps : kDepth;
    const int64_t blocks = (share_.num_rows + kBlockRows - 1) / kBlockRows;
    PanelTiles<E> weights(weight_, scratch_.wide, unit);
    PanelSteps now{share_.panel_begin, depth_.begin, smaller(depth_.begin + unit, depth_.end)};
    weights.begin(now, stretch_of(now.panel), 1);
    while (now.panel < share_.panel_end) {
      const std::byte* tiles = weights.finish();
      PanelSteps next{now.panel, now.step_end, smaller(now.step_end + unit, depth_.end)};
      if (now.step_end == depth_.end)
        next = {now.panel + 1, depth_.begin, smaller(depth_.begin + unit, depth_.end)};
      const bool any = next.panel < share_.panel_end;
      weights.begin(any ? next : PanelSteps{}, stretch_of(next.panel),
                    (now.step_end - now.step_begin) * blocks);
      multiply_panel(now, tiles, weights);
      now = next;
    }
  }

  // The columns of a panel that are read in a row.
  Stretch stretch_of(int64_t panel) const {
    const std::byte* end = place(panel, depth_.end);
    if (panel + 1 < share_.panel_end) return {end, place(panel + 1, depth_.begin)};
    if (depth_.end < num_steps_) return {end, place(share_.panel_begin, depth_.end)};
    return {end, share_.next};
  }

  // Of a step that begins a group, or ends the panel.
  const std::byte* place(int64_t panel, int64_t step) const {
    const auto start = [&](int64_t p) { return weight_.panels() + static_cast<size_t>(p) * panel_bytes_; };
    return step == num_steps_ ? start(panel + 1)
                              : start(panel) + step * 32 / group_columns(E) * group_bytes(E);
  }

  void multiply_panel(const PanelSteps& panel, const std::byte* tiles, PanelTiles<E>& weights) {
    for (int64_t group = 0; group < share_.num_rows; group += kGroupRows) {
      const int64_t rows = smaller(kGroupRows, share_.num_rows - group);
      for (int64_t step = panel.step_begin; step < panel.step_end; step += kChunkSteps) {
        const Steps steps{step, smaller(step + kChunkSteps, panel.step_end)};
        const std::byte* chunk = tiles + (step - panel.step_begin) * kWideStep;
        for (int64_t r = 0; r < rows; r += kBlockRows)
          multiply_block({panel.panel, group, r, smaller(kBlockRows, rows - r), steps}, chunk, weights);
      }
    }
  }

  // Rows group_row + row and following of a panel's chunk of steps.
  struct Block {
    int64_t panel;
    int64_t group, row, num_rows;
    Steps steps;
  };

  void multiply_block(const Block& block, const std::byte* tiles, PanelTiles<E>& weights) {
    const HeldPlace place{share_.num_rows, depth_.end - depth_.begin};
    const std::byte* x = scratch_.x + place(block.group + block.row, block.steps.begin - depth_.begin);
    const bool first = block.steps.begin == depth_.begin, last = block.steps.end == depth_.end;
    Target target;
    if (first || last) {
      const int64_t row = share_.row_begin + block.group + block.row;
      target.y = product_.y + row * product_.y_stride + block.panel * kPanelWidth;
      target.num_rows = block.num_rows;
      target.num_columns = smaller(weight_.out_dim() - block.panel * kPanelWidth, kPanelWidth);
      target.add = depth_.begin > 0;
    }
    if (first && (target.add || !stream_)) fetch_y(target);
    Sums& sums = scratch_.sums[block.row / kBlockRows];
    const int64_t num_steps = block.steps.end - block.steps.begin;
    if (block.num_rows > kTileRows) {
      multiply_steps<2>(x, tiles, num_steps, sums, first, weights);
    } else {
      multiply_steps<1>(x, tiles, num_steps, sums, first, weights);
    }
    if (last) target_ = target;
  }

  // C of the block before moves to its sums, and from there to y if it is complete.
  template <int kTiles>
  void multiply_steps(const std::byte* x, const std::byte* tiles, int64_t num_steps, Sums& sums, bool zero,
                      PanelTiles<E>& weights) {
    if (zero) {
      multiply_step<kTiles, true, false>(x, tiles, sums);
    } else if (held_ != &sums) {
      multiply_step<kTiles, true, true>(x, tiles, sums);
    } else {
      multiply_step<kTiles, false, false>(x, tiles, sums);
    }
    const Sums* left = held_;
    const Target target = target_;
    target_.num_rows = 0;
    held_ = &sums;
    held_tiles_ = kTiles;
    weights.turn();
    for (int64_t step = 1; step < num_steps; ++step) {
      multiply_step<kTiles, false, false>(x + step * kWideStep, tiles + step * kWideStep, sums);
      weights.turn();
      if (step == 1 && target.num_rows > 0) write_y(*left, target);
    }
    if (num_steps == 1 && target.num_rows > 0) write_y(*left, target);
  }

#define INDEXSHARE_EXCHANGE(tile)                                            \
  if constexpr (kExchange) {                                                 \
    if (held_tiles_ > tile / 2) _tile_stored(tile, held_->values[tile], 64); \
    if constexpr (kLoad) {                                                   \
      _tile_loadd(tile, sums.values[tile], 64);                              \
    } else {                                                                 \
      _tile_zero(tile);                                                      \
    }                                                                        \
  }

  // Tiles: C 0..3, x 4 and 5, weights 6 and 7.
  template <int kTiles, bool kExchange, bool kLoad>
  [[gnu::always_inline]] void multiply_step(const std::byte* x, const std::byte* tiles, Sums& sums) {
    _tile_loadd(4, x, 64);
    _tile_loadd(6, tiles, 64);
    INDEXSHARE_EXCHANGE(0)
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, tiles + kTileBytes, 64);
    INDEXSHARE_EXCHANGE(1)
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kTiles == 2) _tile_loadd(5, x + kTileBytes, 64);
    INDEXSHARE_EXCHANGE(2)
    if constexpr (kTiles == 2) _tile_dpbf16ps(2, 5, 6);
    INDEXSHARE_EXCHANGE(3)
    if constexpr (kTiles == 2) _tile_dpbf16ps(3, 5, 7);
  }

#undef INDEXSHARE_EXCHANGE

  void drain() {
    if (held_tiles_ == 0) return;
    held_tiles_ = 0;
    _tile_stored(0, held_->values[0], 64);
    _tile_stored(1, held_->values[1], 64);
    _tile_stored(2, held_->values[2], 64);
    _tile_stored(3, held_->values[3], 64);
    write_y(*held_, target_);
    target_.num_rows = 0;
    held_ = nullptr;
  }

  void fetch_y(const Target& target) const {
    for (int64_t r = 0; r < target.num_rows; ++r) {
      const float* y = target.y + r * product_.y_stride;
      __builtin_prefetch(y, 1);
      __builtin_prefetch(y + target.num_columns - 1, 1);
    }
  }

  void write_y(const Sums& sums, const Target& target) const {
    const auto mask = static_cast<uint32_t>((uint64_t{1} << target.num_columns) - 1);
    const auto low = static_cast<__mmask16>(mask), high = static_cast<__mmask16>(mask >> 16);
    for (int64_t r = 0; r < target.num_rows; ++r) {
      float* y = target.y + r * product_.y_stride;
      __m512 left = _mm512_load_ps(sums.values[r / kTileRows * 2][r % kTileRows]);
      __m512 right = _mm512_load_ps(sums.values[r / kTileRows * 2 + 1][r % kTileRows]);
      if (target.add) {
        left = _mm512_add_ps(_mm512_maskz_loadu_ps(low, y), left);
        right = _mm512_add_ps(_mm512_maskz_loadu_ps(high, y + 16), right);
      }
      if (stream_ && target.num_columns == kPanelWidth) {
        _mm512_stream_ps(y, left);
        _mm512_stream_ps(y + 16, right);
      } else {
        _mm512_mask_storeu_ps(y, low, left);
        _mm512_mask_storeu_ps(y + 16, high, right);
      }
    }
  }

  const ProductShare& share_;
  const Product& product_;
  const PackedMatrix& weight_;
  Scratch& scratch_;
  const int64_t num_steps_;
  const size_t panel_bytes_;
  const bool stream_;  // y past the caches
  Steps depth_{};
  Sums* held_ = nullptr;  // where C belongs
  int held_tiles_ = 0;    // rows of tiles in C
  Target target_;         // of the block in C; no rows where it is not complete
};

}  // namespace

void multiply_share(const ProductShare& share) {
  const PackedMatrix& weight = *share.product->weight;
  if (share.num_rows == 1 && weight.element() == WeightElement::int8 && weight.in_dim() <= kLongestRow)
    return multiply_row(share);
  const TileScope tiles(share.num_rows);
  const FlushSubnormals flush;
  switch (weight.element()) {
    case WeightElement::bf16:
      return Run<WeightElement::bf16>(share).multiply();
    case WeightElement::f8_e4m3:
      return Run<WeightElement::f8_e4m3>(share).multiply();
    case WeightElement::int8:
      return Run<WeightElement::int8>(share).multiply();
    case WeightElement::int4:
      return Run<WeightElement::int4>(share).multiply();
    default:
      return;  // never in tiles
  }
}

}  // namespace indexshare::amx

#pragma GCC pop_options

#else

namespace indexshare::amx {
void multiply_share(const ProductShare&) { ENSURE(false, "this build has no tiles"); }
}  // namespace indexshare::amx

#endif
