// SPDX-License-Identifier: Apache-2.0
// y[row] = sum over the row's experts e, in the order given, of weight_e * down_e(silu(gate_e x) * up_e x)
#include <algorithm>
#include <vector>

#include "backend/reference/reference_backend.h"
#include "backend/reference/reference_matrix.h"
#include "base/check.h"

namespace indexshare {

void ReferenceBackend::experts(const ExpertsArgs& args) {
  std::vector<float> gate(args.expert_dim), up(args.expert_dim), down(args.hidden);
  for (int64_t row = 0; row < args.num_rows; ++row) {
    const float* x = args.x + row * args.hidden;
    float* y = args.y + row * args.hidden;
    std::fill_n(y, args.hidden, 0.0f);
    for (int64_t n = row * args.experts_per_token; n < (row + 1) * args.experts_per_token; ++n) {
      const int64_t index = args.experts[n];
      ENSURE(index >= 0 && index < static_cast<int64_t>(args.table.size()), "expert {} of {}", index,
             args.table.size());
      const Expert& expert = args.table[index];
      multiply(dynamic_cast<const ReferenceMatrix&>(*expert.gate), x, args.hidden, 1, gate.data(),
               args.expert_dim);
      multiply(dynamic_cast<const ReferenceMatrix&>(*expert.up), x, args.hidden, 1, up.data(),
               args.expert_dim);
      silu_multiply({gate.data(), up.data(), gate.data(), 1, args.expert_dim});
      multiply(dynamic_cast<const ReferenceMatrix&>(*expert.down), gate.data(), args.expert_dim, 1,
               down.data(), args.hidden);
      for (int64_t i = 0; i < args.hidden; ++i) y[i] += args.weights[n] * down[i];
    }
  }
}

}  // namespace indexshare
