// SPDX-License-Identifier: Apache-2.0
#include "model/topk_indices.h"

#include "base/check.h"

namespace indexshare {

TopkIndices::TopkIndices(Backend& backend, int64_t max_rows, int64_t width)
    : width_(width),
      positions_(backend.allocate(sizeof(int32_t) * max_rows * width)),
      slots_(backend.allocate(sizeof(int32_t) * max_rows * width)),
      counts_(backend.allocate(sizeof(int32_t) * max_rows)) {}

void TopkIndices::stamp(int layer, uint64_t step) {
  layer_ = layer;
  step_ = step;
}

void TopkIndices::adopt(Backend& backend, TopkIndices& other, int64_t other_row, int64_t row) {
  ENSURE(other.width_ == width_, "a row of {} positions for a selection of {}", other.width_, width_);
  const size_t bytes = sizeof(int32_t) * static_cast<size_t>(width_);
  backend.copy(positions() + row * width_, other.positions() + other_row * width_, bytes);
  backend.copy(slots() + row * width_, other.slots() + other_row * width_, bytes);
  backend.copy(counts() + row, other.counts() + other_row, sizeof(int32_t));
}

void TopkIndices::expect(int layer, uint64_t step) const {
  ENSURE(is_of(layer, step), "attention wants the selection of layer {} in step {}, this is layer {}'s of {}",
         layer, step, layer_, step_);
}

}  // namespace indexshare
