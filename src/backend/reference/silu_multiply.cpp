// SPDX-License-Identifier: Apache-2.0
// y = gate / (1 + exp(-gate)) * up
#include <cmath>

#include "backend/reference/reference_backend.h"

namespace indexshare {

void ReferenceBackend::silu_multiply(const SiluMultiplyArgs& args) {
  for (int64_t i = 0; i < args.num_rows * args.dim; ++i)
    args.y[i] = args.gate[i] / (1.0f + std::exp(-args.gate[i])) * args.up[i];
}

}  // namespace indexshare
