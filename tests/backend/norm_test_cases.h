// SPDX-License-Identifier: Apache-2.0
// Input rows on which a norm can go wrong.
#pragma once

#include "backend/harness.h"

namespace indexshare {

constexpr int64_t kNormDims[] = {1, 2, 13, 40, 72, 128, 576, 1000};

/// [8, stride]: random rows, one of zeros, one constant, one of denormals, one large, one with an outlier.
inline std::vector<float> hostile_norm_rows(int64_t dim, int64_t stride, Rng& rng) {
  std::vector<float> x = rng.uniforms(8 * stride, -2, 2);
  for (int64_t i = 0; i < dim; ++i) {
    x[1 * stride + i] = 0;
    x[2 * stride + i] = 3.5f;
    x[3 * stride + i] = static_cast<float>(i % 5 - 2) * 1e-41f;
    x[4 * stride + i] *= 1e15f;
  }
  x[5 * stride + dim / 2] = 1e4f;
  return x;
}

}  // namespace indexshare
