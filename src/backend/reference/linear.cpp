// SPDX-License-Identifier: Apache-2.0
// y[row, o] = sum_i x[row, i] * W[o, i], i ascending
#include "backend/reference/reference_backend.h"
#include "backend/reference/reference_matrix.h"

namespace indexshare {

void ReferenceBackend::linear(std::span<const LinearArgs> products) {
  for (const LinearArgs& p : products)
    multiply(dynamic_cast<const ReferenceMatrix&>(*p.weight), p.x, p.x_stride, p.num_rows, p.y, p.y_stride);
}

}  // namespace indexshare
