// SPDX-License-Identifier: Apache-2.0
// For linear_tiles_amx.cpp alone: what comes next of a weight, widened in pieces while the tile unit
// multiplies what is ready already, into the half of a buffer that is not in use. bf16 weights are multiplied
// where they lie.
#pragma once

#include "backend/cpu/widen_tiles-inl.h"

#ifdef INDEXSHARE_HAS_TILES

namespace indexshare::amx {

/// Some steps (of 32 columns of `in`) of a panel.
struct PanelSteps {
  int64_t panel = 0;
  int64_t step_begin = 0, step_end = 0;
};

template <WeightElement E>
class PanelTiles {
 public:
  /// @param buffer [2][most steps][kWideStep]
  PanelTiles(const PackedMatrix& weight, std::byte* buffer, int64_t most_steps)
      : weight_(weight), panel_bytes_(weight.panel_bytes()), half_{buffer, buffer + most_steps * kWideStep} {}

  /// Begins with `next`, in as many pieces as `turns` calls of turn() can share.
  /// @param stretch  what `next` is part of
  void begin(const PanelSteps& next, const Stretch& stretch, int64_t turns) {
    next_ = next;
    stretch_ = stretch;
    panel_ = weight_.panels() + static_cast<size_t>(next.panel) * panel_bytes_;
    piece_ = next.step_begin / wide_steps(E) * kPieces;
    end_ = (next.step_end + wide_steps(E) - 1) / wide_steps(E) * kPieces;
    pieces_ = end_ - piece_;
    turns_ = turns;
    due_ = 0;
  }

  [[gnu::always_inline]] void turn() {
    for (due_ += pieces_; due_ >= turns_; due_ -= turns_) do_piece();
  }

  /// Does what is left. @return the tiles of next.step_begin, two for each step
  const std::byte* finish() {
    while (piece_ < end_) do_piece();
    asm volatile("" : : : "memory");  // tile loads do not tell the compiler that they read
    use_ ^= 1;
    return half_[use_ ^ 1];
  }

 private:
  static constexpr int64_t kPieces = pieces_per_step(E);

  void do_piece() {
    if (piece_ >= end_) return;
    const int64_t step = piece_ / kPieces, piece = piece_ % kPieces;  // of the steps as stored
    const std::byte* group = panel_ + step / steps_per_group(E) * group_bytes(E);
    const std::byte* from = group + group_header_bytes(E) + step % steps_per_group(E) * step_bytes(E);
    widen_piece<E>(from, reinterpret_cast<const float*>(group), piece,
                   half_[use_] + (step * wide_steps(E) - next_.step_begin) * kWideStep,
                   stretch_.later(from + piece * step_bytes(E) / kPieces));
    ++piece_;
  }

  const PackedMatrix& weight_;
  const size_t panel_bytes_;
  std::byte* half_[2];
  int use_ = 0;  // the half that the next steps go to
  PanelSteps next_;
  const std::byte* panel_ = nullptr;  // of next_
  Stretch stretch_;
  int64_t piece_ = 0, end_ = 0, pieces_ = 0, turns_ = 1, due_ = 0;
};

template <>
class PanelTiles<WeightElement::bf16> {
 public:
  PanelTiles(const PackedMatrix& weight, std::byte*, int64_t) : weight_(weight) {}

  void begin(const PanelSteps& next, const Stretch&, int64_t) { next_ = next; }
  void turn() {}
  const std::byte* finish() const {
    return weight_.panels() + static_cast<size_t>(next_.panel) * weight_.panel_bytes() +
           next_.step_begin * kWideStep;
  }

 private:
  const PackedMatrix& weight_;
  PanelSteps next_;
};

}  // namespace indexshare::amx

#endif
