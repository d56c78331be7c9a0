// SPDX-License-Identifier: Apache-2.0
// Products on tiles: two row tiles of x times a panel of 32 columns in four tiles of C, x and weights in
// bf16. What keeps the tile unit busy (measured): one factor in the first cache and one in the second, few
// lines from beyond and never many at once, and a C that is stored while the next one's products run
// already. Hence:
//   - the share's rows of x are converted first, 1536 columns of as many rows as fill a third of the second
//     cache, and stay there while all its panels pass;
//   - a chunk of a panel (32 KiB as bf16) stays in the first cache while all these rows pass, which are
//     loaded with the hint not to stay: with plain loads no more than 16 KiB do;
//   - C waits in `sums` from one chunk to the next, and in y for the next columns: no cut shows;
//   - a tile of C moves out just before its register is needed again, straight to y where y takes whole
//     tiles; y's lines are asked for a few at a time during the block's last steps.
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
  Sums sums[kTileHeldBytes / (kChunkSteps * kHeldStepBytes)];  // as many blocks as have more than a chunk
  std::byte wide[kChunkSteps * kWideStep];
  std::byte x[kTileHeldBytes];  // HeldPlace, as it is read for each panel
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
        stream_(num_steps_ <= kDepth && product_.num_rows * product_.y_stride * 4 > kStreamedBytes &&
                product_.y_stride % 16 == 0 && reinterpret_cast<uintptr_t>(product_.y) % 64 == 0) {}

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
  };

  // Where the tiles of C go.
  struct Place {
    std::byte* first = nullptr;
    int64_t next_columns = 0, next_rows = 0, row_bytes = 0;

    std::byte* at(int t) const { return first + t % 2 * next_columns + t / 2 * next_rows; }
  };

  Place place_in_y(const Target& target) const {
    const int64_t row_bytes = product_.y_stride * 4;
    return {reinterpret_cast<std::byte*>(target.y), 64, kTileRows * row_bytes, row_bytes};
  }

  // What C is before the first product.
  enum class Start { zero, load, stay };

  // Or else vectors carry its tiles, by way of the sums.
  bool stored_by_tiles(const Target& target) const {
    const bool whole_rows = target.num_rows % kTileRows == 0 || share_.num_rows < kTileRows;
    return whole_rows && target.num_columns == kPanelWidth && !stream_;
  }

  // The share before had the same rows where its product has the same x.
  void hold_x() {
    const HeldRows rows{&product_, share_.row_begin, share_.num_rows, depth_.begin};
    if (same_rows(*share_.held, rows)) return;
    convert_to_bf16(rows, depth_.end, scratch_.x);
    *share_.held = rows;
    asm volatile("" : : : "memory");  // tile loads do not tell the compiler that they read
  }

  void multiply_depth() {
    PanelTiles<E> weights(weight_, scratch_.wide);
    PanelSteps now = chunk(share_.panel_begin, depth_.begin);
    while (now.panel < share_.panel_end) {
      const std::byte* tiles = weights.take(now, stretch_of(now.panel));
      const PanelSteps next =
          now.end < depth_.end ? chunk(now.panel, now.end) : chunk(now.panel + 1, depth_.begin);
      const int64_t blocks = (share_.num_rows + kBlockRows - 1) / kBlockRows;
      if (next.panel < share_.panel_end) weights.fetch(next, (now.end - now.begin) * blocks);
      for (int64_t row = 0; row < share_.num_rows; row += kBlockRows)
        multiply_block(now, row, tiles, weights);
      now = next;
    }
  }

  PanelSteps chunk(int64_t panel, int64_t step) const {
    return {panel, step, smaller(step + chunk_steps(share_.num_rows), depth_.end)};
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

  // Rows counted within the share.
  Target target_of(int64_t panel, int64_t row, int64_t num_rows) const {
    return {product_.y + (share_.row_begin + row) * product_.y_stride + panel * kPanelWidth, num_rows,
            smaller(weight_.out_dim() - panel * kPanelWidth, kPanelWidth)};
  }

  void multiply_block(const PanelSteps& steps, int64_t row, const std::byte* tiles, PanelTiles<E>& weights) {
    const HeldPlace place{share_.num_rows, depth_.end - depth_.begin};
    const std::byte* x = scratch_.x + place(row, steps.begin - depth_.begin);
    const bool first = steps.begin == depth_.begin, last = steps.end == depth_.end;
    // Where none has to wait two take turns, so that they stay in the first cache.
    const int64_t block = row / kBlockRows;
    Sums& sums = scratch_.sums[first && last ? block % 2 : block];
    const int64_t num_steps = steps.end - steps.begin;
    const Target target = target_of(steps.panel, row, smaller(kBlockRows, share_.num_rows - row));
    const bool by_tiles = stored_by_tiles(target), carried = first && depth_.begin > 0;
    if (last && !stream_) fetch_y(target, num_steps);
    if (carried && !by_tiles) {
      drain();
      read_y(target, sums);
    }
    const Place waiting{reinterpret_cast<std::byte*>(sums.values), kTileBytes, 2 * kTileBytes, 64};
    const Place in_y = place_in_y(target);
    const Start start = first && !carried          ? Start::zero
                        : held_ == &sums && !first ? Start::stay
                                                   : Start::load;
    const Place& from = first && by_tiles ? in_y : waiting;
    if (target.num_rows > kTileRows) {
      multiply_steps<2>(x, tiles, num_steps, start, from, weights);
    } else {
      multiply_steps<1>(x, tiles, num_steps, start, from, weights);
    }
    held_ = &sums;
    out_ = last && by_tiles ? in_y : waiting;
    if (last && !by_tiles) target_ = target;
  }

  // C of the block before moves out first, to its sums or to y, and by way of the sums where y wants vectors.
  template <int kTiles>
  void multiply_steps(const std::byte* x, const std::byte* tiles, int64_t num_steps, Start start,
                      const Place& from, PanelTiles<E>& weights) {
    if (start == Start::zero) {
      multiply_step<kTiles, Start::zero>(x, tiles, from);
    } else if (start == Start::load) {
      multiply_step<kTiles, Start::load>(x, tiles, from);
    } else {
      multiply_step<kTiles, Start::stay>(x, tiles, from);
    }
    const Sums* left = held_;
    const Target target = target_;
    target_.num_rows = 0;
    held_tiles_ = kTiles;
    turn(weights);
    // A few rows of y after each step: many lines at once would fill the buffers that tile loads need, too.
    const int64_t rows_a_step = (target.num_rows + num_steps - 1) / num_steps;
    if (target.num_rows > 0) write_y(*left, target, 0, rows_a_step);
    for (int64_t step = 1; step < num_steps; ++step) {
      multiply_step<kTiles, Start::stay>(x + step * kWideStep, tiles + step * kWideStep, from);
      turn(weights);
      if (step * rows_a_step < target.num_rows)
        write_y(*left, target, step * rows_a_step, (step + 1) * rows_a_step);
    }
  }

  // What goes on beside the products, a little after each step.
  [[gnu::always_inline]] void turn(PanelTiles<E>& weights) {
    weights.turn();
    for (int64_t n = 0; n < fetched_rows_a_turn_ && fetched_row_ < fetched_.num_rows; ++n, ++fetched_row_) {
      const float* y = fetched_.y + fetched_row_ * product_.y_stride;
      __builtin_prefetch(y, 1);
      __builtin_prefetch(y + fetched_.num_columns - 1, 1);
    }
  }

#define INDEXSHARE_EXCHANGE(tile)                                                  \
  if constexpr (kStart != Start::stay) {                                           \
    if (held_tiles_ > tile / 2) _tile_stored(tile, out_.at(tile), out_.row_bytes); \
    if constexpr (kStart == Start::zero) {                                         \
      _tile_zero(tile);                                                            \
    } else if constexpr (tile / 2 < kTiles) {                                      \
      _tile_loadd(tile, from.at(tile), from.row_bytes);                            \
    }                                                                              \
  }

  // Tiles: C 0..3, x 4 and 5, weights 6 and 7.
  template <int kTiles, Start kStart>
  [[gnu::always_inline]] void multiply_step(const std::byte* x, const std::byte* tiles,
                                            [[maybe_unused]] const Place& from) {
    _tile_stream_loadd(4, x, 64);
    _tile_loadd(6, tiles, 64);
    INDEXSHARE_EXCHANGE(0)
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, tiles + kTileBytes, 64);
    INDEXSHARE_EXCHANGE(1)
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kTiles == 2) _tile_stream_loadd(5, x + kTileBytes, 64);
    INDEXSHARE_EXCHANGE(2)
    if constexpr (kTiles == 2) _tile_dpbf16ps(2, 5, 6);
    INDEXSHARE_EXCHANGE(3)
    if constexpr (kTiles == 2) _tile_dpbf16ps(3, 5, 7);
  }

#undef INDEXSHARE_EXCHANGE

  void drain() {
    if (held_tiles_ == 0) return;
    _tile_stored(0, out_.at(0), out_.row_bytes);
    _tile_stored(1, out_.at(1), out_.row_bytes);
    if (held_tiles_ == 2) {
      _tile_stored(2, out_.at(2), out_.row_bytes);
      _tile_stored(3, out_.at(3), out_.row_bytes);
    }
    write_y(*held_, target_, 0, target_.num_rows);
    target_.num_rows = 0;
    held_ = nullptr;
    held_tiles_ = 0;
  }

  // Begins to fetch what a block will write, over as many turns.
  void fetch_y(const Target& target, int64_t turns) {
    fetched_ = target;
    fetched_row_ = 0;
    fetched_rows_a_turn_ = (target.num_rows + turns - 1) / turns;
  }

  void read_y(const Target& target, Sums& sums) const {
    const auto mask = static_cast<uint32_t>((uint64_t{1} << target.num_columns) - 1);
    const auto low = static_cast<__mmask16>(mask), high = static_cast<__mmask16>(mask >> 16);
    for (int64_t r = 0; r < target.num_rows; ++r) {
      const float* y = target.y + r * product_.y_stride;
      _mm512_store_ps(sums.values[r / kTileRows * 2][r % kTileRows], _mm512_maskz_loadu_ps(low, y));
      _mm512_store_ps(sums.values[r / kTileRows * 2 + 1][r % kTileRows], _mm512_maskz_loadu_ps(high, y + 16));
    }
    asm volatile("" : : : "memory");  // tile loads do not tell the compiler that they read
  }

  void write_y(const Sums& sums, const Target& target, int64_t row_begin, int64_t row_end) const {
    const auto mask = static_cast<uint32_t>((uint64_t{1} << target.num_columns) - 1);
    const auto low = static_cast<__mmask16>(mask), high = static_cast<__mmask16>(mask >> 16);
    for (int64_t r = row_begin, end = smaller(row_end, target.num_rows); r < end; ++r) {
      float* y = target.y + r * product_.y_stride;
      const __m512 left = _mm512_load_ps(sums.values[r / kTileRows * 2][r % kTileRows]);
      const __m512 right = _mm512_load_ps(sums.values[r / kTileRows * 2 + 1][r % kTileRows]);
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
  Place out_;             // where it goes
  int held_tiles_ = 0;    // rows of tiles in C
  Target target_;         // of the block in C; no rows where it is not complete
  Target fetched_;        // of the group whose lines of y are fetched
  int64_t fetched_row_ = 0, fetched_rows_a_turn_ = 0;
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
