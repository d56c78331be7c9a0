// SPDX-License-Identifier: Apache-2.0
// TopkIndices: the selection of every row of a forward pass, stamped with the layer and step that made it, so
// that attention with stale indices fails loudly instead of answering wrongly.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "backend/backend.h"

namespace indexshare {

class TopkIndices {
 public:
  TopkIndices() = default;
  TopkIndices(Backend& backend, int64_t max_rows, int64_t width);

  int64_t width() const { return width_; }
  int32_t* positions() {
    return static_cast<int32_t*>(positions_->data());
  }  // [rows, width] ascending, -1 padded
  std::span<const int32_t> row(int64_t row) {
    return {positions() + row * width_, static_cast<size_t>(width_)};
  }
  int32_t* slots() { return static_cast<int32_t*>(slots_->data()); }    // [rows, width] physical, -1 padded
  int32_t* counts() { return static_cast<int32_t*>(counts_->data()); }  // [rows]

  void stamp(int layer, uint64_t step);
  /// Copies one row of `other`, which keeps it.
  void adopt(Backend& backend, TopkIndices& other, int64_t other_row, int64_t row);
  bool is_of(int layer, uint64_t step) const { return layer_ == layer && step_ == step; }
  /// @throws Error{internal} unless `layer` made this selection in this very step.
  void expect(int layer, uint64_t step) const;

 private:
  int64_t width_ = 0;
  std::unique_ptr<Buffer> positions_, slots_, counts_;
  int layer_ = -1;
  uint64_t step_ = 0;
};

}  // namespace indexshare
