// SPDX-License-Identifier: Apache-2.0
#include "indexshare/output_distance.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace indexshare {
namespace {

// Logits whose softmax is p, shifted by any constant.
std::vector<float> logits_of(std::vector<double> p, double shift = 0) {
  std::vector<float> logits;
  for (const double x : p) logits.push_back(static_cast<float>(std::log(x) + shift));
  return logits;
}

TEST(OutputDistance, ByHand) {
  const auto p = logits_of({0.5, 0.25, 0.25}, 3), q = logits_of({0.25, 0.5, 0.25}, -40);
  const OutputDistance d = output_distance(p, q);
  EXPECT_NEAR(d.kl, 0.5 * std::log(2.0) - 0.25 * std::log(2.0), 1e-6);
  EXPECT_FALSE(d.same_top1);
  EXPECT_NEAR(negative_log_likelihood(q, 1), std::log(2.0), 1e-5);
}

TEST(OutputDistance, OfADistributionToItselfIsNothing) {
  const auto p = logits_of({0.7, 0.1, 0.2});
  EXPECT_EQ(output_distance(p, p).kl, 0);
  EXPECT_TRUE(output_distance(p, p).same_top1);
  EXPECT_LT(output_distance(p, logits_of({0.7, 0.1, 0.2}, 100)).kl, 1e-9);
}

TEST(OutputDistance, SurvivesHugeLogits) {
  const std::vector<float> a = {3e38f, -3e38f}, b = {0, 0};
  EXPECT_NEAR(output_distance(a, b).kl, std::log(2.0), 1e-9);
  EXPECT_TRUE(std::isfinite(negative_log_likelihood(a, 0)));
}

}  // namespace
}  // namespace indexshare
