// SPDX-License-Identifier: Apache-2.0
// y[i] = (x[i] - mean) / sqrt(var + eps) * weight[i] + bias[i], var = mean((x - mean)^2)
#include <cmath>

#include "backend/reference/reference_backend.h"

namespace indexshare {

void ReferenceBackend::layer_norm(const LayerNormArgs& args) {
  const float dim = static_cast<float>(args.dim);
  for (int64_t row = 0; row < args.num_rows; ++row) {
    const float* x = args.x + row * args.x_stride;
    float* y = args.y + row * args.y_stride;
    float sum = 0;
    for (int64_t i = 0; i < args.dim; ++i) sum += x[i];
    const float mean = sum / dim;
    float squares = 0;
    for (int64_t i = 0; i < args.dim; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const float inverse = 1.0f / std::sqrt(squares / dim + args.eps);
    for (int64_t i = 0; i < args.dim; ++i) y[i] = (x[i] - mean) * inverse * args.weight[i] + args.bias[i];
  }
}

}  // namespace indexshare
