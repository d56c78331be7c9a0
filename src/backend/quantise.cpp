// SPDX-License-Identifier: Apache-2.0
#include "backend/quantise.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace indexshare {

namespace {

constexpr float kSmallest = 1e-30f;  // below it 1 / scale would overflow: as good as zero

// The largest |x|; NaN where any is NaN or infinite.
float magnitude(const float* x, int64_t count) {
  float largest = 0;
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) {
    finite &= std::isfinite(x[i]);
    largest = std::max(largest, std::fabs(x[i]));
  }
  return finite ? largest : std::numeric_limits<float>::quiet_NaN();
}

template <class Code>
float quantise(const float* x, int64_t count, float limit, Code* codes) {
  const float largest = magnitude(x, count);
  if (!(largest >= kSmallest)) {
    std::fill_n(codes, count, Code{0});
    return std::isnan(largest) ? largest : 0.0f;
  }
  const float inverse = limit / largest;
  for (int64_t i = 0; i < count; ++i)
    codes[i] = static_cast<Code>(std::clamp(std::nearbyint(x[i] * inverse), -limit, limit));
  return largest / limit;
}

float int4_codes(const float* x, int64_t count, float scale, int8_t* codes) {
  float squared_error = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float code = std::clamp(std::nearbyint(x[i] / scale), -8.0f, 7.0f), error = x[i] - code * scale;
    codes[i] = static_cast<int8_t>(code);
    squared_error += error * error;
  }
  return squared_error;
}

}  // namespace

float quantise_int8(const float* x, int64_t count, int8_t* codes) {
  return quantise(x, count, 127.0f, codes);
}

float quantise_int16(const float* x, int64_t count, int16_t* codes) {
  return quantise(x, count, 32767.0f, codes);
}

float quantise_int4(const float* x, int64_t count, int8_t* codes) {
  std::fill_n(codes, count, int8_t{0});
  const float largest = magnitude(x, count);
  if (!(largest >= kSmallest)) return std::isnan(largest) ? largest : 0.0f;
  // The asymmetric range holds one code more below zero: a negative scale puts it above. A little clipping of
  // the largest value may serve the others.
  float best_scale = largest / 7, best_error = std::numeric_limits<float>::infinity();
  for (float limit : {7.0f, 7.5f, 8.0f})
    for (float sign : {1.0f, -1.0f}) {
      const float scale = sign * largest / limit, error = int4_codes(x, count, scale, codes);
      if (error < best_error) best_error = error, best_scale = scale;
    }
  int4_codes(x, count, best_scale, codes);
  return best_scale;
}

}  // namespace indexshare
