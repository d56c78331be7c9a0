// SPDX-License-Identifier: Apache-2.0
// TensorView: a name, a type, a shape and bytes that somebody else owns (usually a mapped file).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"

namespace indexshare {

struct TensorView {
  std::string name;  // as in the checkpoint, for messages
  DType dtype = DType::f32;
  std::vector<int64_t> shape;  // row-major, outermost first
  const std::byte* data = nullptr;

  int64_t num_elements() const {
    int64_t n = 1;
    for (int64_t d : shape) n *= d;
    return n;
  }
  size_t num_bytes() const { return static_cast<size_t>(num_elements()) * dtype_bytes(dtype); }
  float at(int64_t index) const { return load_as_f32(dtype, data, index); }
};

}  // namespace indexshare
