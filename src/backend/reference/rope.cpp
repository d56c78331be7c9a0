// SPDX-License-Identifier: Apache-2.0
// (a, b) -> (a cos - b sin, b cos + a sin), angle = f32(position) * inv_freq[j] rounded to f32, for the pairs
// interleaved (x[2j], x[2j+1]) or half_split (x[j], x[j + rope_dim/2])
#include <cmath>

#include "backend/reference/reference_backend.h"

namespace indexshare {

void ReferenceBackend::rope(const RopeArgs& args) {
  const int64_t half = args.rope_dim / 2;
  const bool interleaved = args.pairs == RopePairs::interleaved;
  for (int64_t row = 0; row < args.num_rows; ++row)
    for (int64_t head = 0; head < args.num_heads; ++head) {
      float* x = args.x + row * args.row_stride + head * args.head_stride;  // [rope_dim]
      for (int64_t j = 0; j < half; ++j) {
        const float angle = static_cast<float>(args.positions[row]) * args.inv_freq[j];
        const float cosine = std::cos(angle) * args.amplitude, sine = std::sin(angle) * args.amplitude;
        float& first = x[interleaved ? 2 * j : j];
        float& second = x[interleaved ? 2 * j + 1 : j + half];
        const float a = first, b = second;
        first = a * cosine - b * sine;
        second = b * cosine + a * sine;
      }
    }
}

}  // namespace indexshare
