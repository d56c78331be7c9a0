// SPDX-License-Identifier: Apache-2.0
// (a, b) -> (a cos - b sin, b cos + a sin), angle = f32(position) * inv_freq[j] rounded to f32, for the pairs
// interleaved (x[2j], x[2j+1]) or half_split (x[j], x[j + rope_dim/2]). libm's sine and cosine, whose range
// reduction holds at position 1e6, once a row for all heads; rows are shared out among threads.
#include <algorithm>
#include <cmath>

#include "backend/cpu/cpu_backend.h"
#include "base/check.h"

namespace indexshare {

namespace {

// @param table [half] cosines, then [half] sines
void fill_table(const RopeArgs& args, int64_t row, float* table) {
  const int64_t half = args.rope_dim / 2;
  const float position = static_cast<float>(args.positions[row]);
  for (int64_t j = 0; j < half; ++j) {
    const float angle = position * args.inv_freq[j];
    table[j] = std::cos(angle) * args.amplitude;
    table[half + j] = std::sin(angle) * args.amplitude;
  }
}

void rotate(float* x, const float* table, int64_t half, int64_t pair_stride, int64_t second) {
  for (int64_t j = 0; j < half; ++j) {
    float* first = x + j * pair_stride;
    const float a = first[0], b = first[second], cosine = table[j], sine = table[half + j];
    first[0] = a * cosine - b * sine;
    first[second] = b * cosine + a * sine;
  }
}

}  // namespace

void CpuBackend::rope(const RopeArgs& args) {
  ENSURE(args.rope_dim >= 0 && args.rope_dim % 2 == 0, "rope: rope_dim {}", args.rope_dim);
  ENSURE(args.num_heads <= 1 || args.head_stride >= args.rope_dim, "rope: head_stride {} for rope_dim {}",
         args.head_stride, args.rope_dim);
  const int64_t half = args.rope_dim / 2;
  const int64_t grain = 1 + 4000 / (1 + args.rope_dim * (args.num_heads + 8) / 16);
  parallel(args.num_rows, grain, [&](int64_t begin, int64_t end, int worker) {
    float* table = worker_scratch_[static_cast<size_t>(worker)].floats(static_cast<size_t>(args.rope_dim));
    for (int64_t row = begin; row < end; ++row) {
      fill_table(args, row, table);
      for (int64_t head = 0; head < args.num_heads; ++head) {
        float* x = args.x + row * args.row_stride + head * args.head_stride;
        if (args.pairs == RopePairs::interleaved) {
          rotate(x, table, half, 2, 1);
        } else {
          rotate(x, table, half, 1, half);
        }
      }
    }
  });
}

}  // namespace indexshare
