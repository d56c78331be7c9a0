// SPDX-License-Identifier: Apache-2.0
#include "indexshare/output_distance.h"

#include <algorithm>
#include <cmath>

namespace indexshare {

namespace {

// log(sum(exp(logits))), without overflow.
double log_sum_exp(std::span<const float> logits) {
  const double largest = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  return largest + std::log(sum);
}

}  // namespace

double negative_log_likelihood(std::span<const float> logits, int32_t token) {
  return log_sum_exp(logits) - static_cast<double>(logits[token]);
}

OutputDistance output_distance(std::span<const float> reference, std::span<const float> tested) {
  const double reference_norm = log_sum_exp(reference), tested_norm = log_sum_exp(tested);
  double kl = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double log_p = reference[i] - reference_norm, log_q = tested[i] - tested_norm;
    kl += std::exp(log_p) * (log_p - log_q);
  }
  const auto top1 = [](std::span<const float> logits) {
    return std::ranges::max_element(logits) - logits.begin();
  };
  return {.kl = std::max(kl, 0.0),  // negative by rounding alone
          .same_top1 = top1(reference) == top1(tested)};
}

}  // namespace indexshare
