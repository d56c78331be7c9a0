// SPDX-License-Identifier: Apache-2.0
// For linear_tiles_amx.cpp alone: chunks of a panel as the tile unit takes them. bf16 weights are multiplied
// where they lie, and the next chunk is fetched meanwhile. Others are widened right before their products,
// into a buffer that stays in the first cache: done in pieces between products the same work takes longer.
#pragma once

#include "backend/cpu/widen_tiles-inl.h"

#ifdef INDEXSHARE_HAS_TILES

namespace indexshare::amx {

/// Some steps (of 32 columns of `in`) of a panel.
struct PanelSteps {
  int64_t panel = 0;
  int64_t begin = 0, end = 0;
};

template <WeightElement E>
class PanelTiles {
 public:
  /// @param buffer [most steps][kWideStep]
  PanelTiles(const PackedMatrix& weight, std::byte* buffer)
      : weight_(weight), panel_bytes_(static_cast<int64_t>(weight.panel_bytes())), buffer_(buffer) {}

  /// @param stretch  what the steps are part of  @return two tiles for each step
  const std::byte* take(const PanelSteps& steps, const Stretch& stretch) const {
    const std::byte* panel = weight_.panels() + steps.panel * panel_bytes_;
    std::byte* to = buffer_;
    for (int64_t step = steps.begin / kWide; step * kWide < steps.end; ++step, to += kWide * kWideStep) {
      const std::byte* group = panel + step / steps_per_group(E) * group_bytes(E);
      const std::byte* from = group + group_header_bytes(E) + step % steps_per_group(E) * step_bytes(E);
      for (int64_t piece = 0; piece < kPieces; ++piece)
        widen_piece<E>(from, reinterpret_cast<const float*>(group), piece, to,
                       stretch.later(from + piece * step_bytes(E) / kPieces));
    }
    asm volatile("" : : : "memory");  // tile loads do not tell the compiler that they read
    return buffer_;
  }

  void fetch(const PanelSteps&, int64_t) {}
  void turn() {}

 private:
  static constexpr int64_t kPieces = pieces_per_step(E), kWide = wide_steps(E);

  const PackedMatrix& weight_;
  const int64_t panel_bytes_;
  std::byte* buffer_;
};

template <>
class PanelTiles<WeightElement::bf16> {
 public:
  PanelTiles(const PackedMatrix& weight, std::byte*)
      : weight_(weight), panel_bytes_(static_cast<int64_t>(weight.panel_bytes())) {}

  const std::byte* take(const PanelSteps& steps, const Stretch&) const { return place(steps); }

  /// Begins to fetch steps into the second cache, over `turns` calls of turn(). Where that were many lines at
  /// once they would hold up tile loads, and the processor fetches better by itself.
  void fetch(const PanelSteps& steps, int64_t turns) {
    constexpr int64_t kMostLines = 4;  // a turn
    const int64_t num_bytes = (steps.end - steps.begin) * kWideStep;
    bytes_a_turn_ = (num_bytes / turns + 63) / 64 * 64;
    at_ = end_ = place(steps);
    if (bytes_a_turn_ <= kMostLines * 64) end_ += num_bytes;
  }
  [[gnu::always_inline]] void turn() {
    const std::byte* stop = end_ - at_ < bytes_a_turn_ ? end_ : at_ + bytes_a_turn_;
    for (; at_ < stop; at_ += 64) _mm_prefetch(at_, _MM_HINT_T1);
  }

 private:
  const std::byte* place(const PanelSteps& steps) const {
    return weight_.panels() + steps.panel * panel_bytes_ + steps.begin * kWideStep;
  }

  const PackedMatrix& weight_;
  const int64_t panel_bytes_;
  const std::byte *at_ = nullptr, *end_ = nullptr;
  int64_t bytes_a_turn_ = 0;
};

}  // namespace indexshare::amx

#endif
