// SPDX-License-Identifier: Apache-2.0
// y[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]
#include <cmath>

#include "backend/reference/reference_backend.h"

namespace indexshare {

void ReferenceBackend::rms_norm(const RmsNormArgs& args) {
  for (int64_t row = 0; row < args.num_rows; ++row) {
    const float* x = args.x + row * args.x_stride;
    float* y = args.y + row * args.y_stride;
    float sum = 0;
    for (int64_t i = 0; i < args.dim; ++i) sum += x[i] * x[i];
    const float inverse = 1.0f / std::sqrt(sum / static_cast<float>(args.dim) + args.eps);
    for (int64_t i = 0; i < args.dim; ++i) y[i] = x[i] * inverse * args.weight[i];
  }
}

}  // namespace indexshare
