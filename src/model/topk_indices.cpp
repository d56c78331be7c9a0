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

void TopkIndices::expect(int layer, uint64_t step) const {
  ENSURE(layer_ == layer && step_ == step,
         "attention wants the selection of layer {} in step {}, this is layer {}'s of {}", layer, step,
         layer_, step_);
}

}  // namespace indexshare
