// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <numbers>

#include "model/model.h"

namespace indexshare {

std::vector<float> rope_frequencies(const RopeConfig& rope, int64_t rope_dim) {
  std::vector<float> inv_freq(static_cast<size_t>(rope_dim / 2));
  for (int64_t j = 0; j < rope_dim / 2; ++j)
    inv_freq[j] = static_cast<float>(1.0 / std::pow(rope.theta, 2.0 * static_cast<double>(j) / rope_dim));
  if (rope.yarn_factor == 1) return inv_freq;

  // YaRN: the frequency index at which a pair turns `beta` times over the original context; between the two
  // indices the frequency goes linearly from untouched to divided by the factor.
  const auto turning = [&](double beta) {
    return rope_dim * std::log(rope.yarn_original_positions / (beta * 2 * std::numbers::pi)) /
           (2 * std::log(rope.theta));
  };
  double low = turning(rope.yarn_beta_fast), high = turning(rope.yarn_beta_slow);
  if (rope.yarn_truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(rope_dim - 1));
  if (low == high) high += 0.001;  // as transformers: a step instead of a division by zero
  for (int64_t j = 0; j < rope_dim / 2; ++j) {
    const double divided = std::clamp((static_cast<double>(j) - low) / (high - low), 0.0, 1.0);
    inv_freq[j] = static_cast<float>(inv_freq[j] / rope.yarn_factor * divided + inv_freq[j] * (1 - divided));
  }
  return inv_freq;
}

}  // namespace indexshare
