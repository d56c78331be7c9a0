// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "backend/harness.h"
#include "tolerances.h"

namespace indexshare {
namespace {

class Route : public OpTest {};
INSTANTIATE_FOR_BACKENDS(Route);

struct Case {
  int64_t num_experts, experts_per_token, num_groups = 1, groups_per_token = 1;
  float scale = 1;
  bool normalize = true;
};

struct Routed {
  std::vector<int32_t> experts;
  std::vector<float> weights;
};

Routed route(Backend& backend, const Case& c, const std::vector<float>& logits,
             const std::vector<float>& bias) {
  const int64_t num_rows = static_cast<int64_t>(logits.size()) / c.num_experts;
  Routed routed{std::vector<int32_t>(num_rows * c.experts_per_token, -7),
                std::vector<float>(num_rows * c.experts_per_token, -7.0f)};
  backend.route({logits.data(), bias.data(), num_rows, c.num_experts, c.experts_per_token, c.num_groups,
                 c.groups_per_token, c.scale, c.normalize, routed.experts.data(), routed.weights.data()});
  return routed;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// The chosen experts by sorting (choice descending, index ascending), ascending on return.
std::vector<int32_t> twin_experts(const Case& c, const float* logits, const std::vector<float>& bias) {
  const int64_t group_size = c.num_experts / c.num_groups;
  std::vector<double> choice(c.num_experts);
  for (int64_t e = 0; e < c.num_experts; ++e) choice[e] = sigmoid(logits[e]) + bias[e];
  std::vector<std::pair<double, int64_t>> groups;  // (-worth, index)
  for (int64_t g = 0; g < c.num_groups; ++g) {
    std::vector<double> sorted(&choice[g * group_size], &choice[g * group_size] + group_size);
    std::sort(sorted.rbegin(), sorted.rend());
    groups.emplace_back(-(sorted[0] + (group_size > 1 ? sorted[1] : 0)), g);
  }
  std::sort(groups.begin(), groups.end());
  std::vector<std::pair<double, int32_t>> experts;
  for (int64_t n = 0; n < c.groups_per_token; ++n)
    for (int64_t i = 0; i < group_size; ++i) {
      const int64_t e = groups[n].second * group_size + i;
      experts.emplace_back(-choice[e], static_cast<int32_t>(e));
    }
  std::sort(experts.begin(), experts.end());
  std::vector<int32_t> chosen;
  for (int64_t n = 0; n < c.experts_per_token; ++n) chosen.push_back(experts[n].second);
  std::sort(chosen.begin(), chosen.end());
  return chosen;
}

void check(Backend& backend, const Case& c, const std::vector<float>& logits,
           const std::vector<float>& bias) {
  SCOPED_TRACE(testing::Message() << c.experts_per_token << " of " << c.num_experts << ", "
                                  << c.groups_per_token << " of " << c.num_groups << " groups");
  const Routed routed = route(backend, c, logits, bias);
  const int64_t k = c.experts_per_token, num_rows = static_cast<int64_t>(logits.size()) / c.num_experts;
  for (int64_t row = 0; row < num_rows; ++row) {
    const float* row_logits = &logits[row * c.num_experts];
    const std::vector<int32_t> expected = twin_experts(c, row_logits, bias);
    ASSERT_EQ(std::vector<int32_t>(&routed.experts[row * k], &routed.experts[row * k] + k), expected)
        << "row " << row;
    double sum = 0;
    for (int32_t e : expected) sum += sigmoid(row_logits[e]);
    std::vector<double> weights;
    for (int32_t e : expected)
      weights.push_back((c.normalize ? sigmoid(row_logits[e]) / (sum + 1e-20) : sigmoid(row_logits[e])) *
                        c.scale);
    ASSERT_LE(row_error(&routed.weights[row * k], weights), tolerance::kRouteWeight) << "row " << row;
  }
}

TEST_P(Route, EqualsTwin) {
  const Case cases[] = {{1, 1},
                        {8, 1},
                        {8, 8},
                        {13, 3, 1, 1, 2.5f},
                        {256, 8, 1, 1, 2.5f},
                        {256, 8, 8, 4, 2.5f},
                        {12, 2, 4, 2},
                        {12, 3, 12, 3},
                        {8, 2, 1, 1, 1.5f, false},
                        {40, 6, 5, 3}};
  for (const Case& c : cases) {
    Rng rng(c.num_experts + c.num_groups);
    check(*backend, c, rng.uniforms(37 * c.num_experts, -4, 4), rng.uniforms(c.num_experts, -0.3f, 0.3f));
  }
}

TEST_P(Route, TiesGoToTheSmallerIndex) {
  check(*backend, {16, 4}, std::vector<float>(16, 0.5f), std::vector<float>(16, 0.0f));
  check(*backend, {16, 4, 4, 2}, std::vector<float>(16, 0.5f), std::vector<float>(16, 0.0f));
  Rng rng(1);
  check(*backend, {64, 8}, rng.integers(20 * 64, -1, 1), std::vector<float>(64, 0.0f));
  check(*backend, {64, 8, 8, 3}, rng.integers(20 * 64, -1, 1), std::vector<float>(64, 0.0f));
}

// A filler of 0 for excluded groups would win against negative choices.
TEST_P(Route, ExcludedGroupsLoseAgainstNegativeChoices) {
  Rng rng(2);
  check(*backend, {12, 3, 4, 2}, rng.uniforms(20 * 12, -2, 2), std::vector<float>(12, -5.0f));
}

TEST_P(Route, BiasChoosesButDoesNotWeigh) {
  const std::vector<float> logits{2, 1, 0, -1};
  const Routed routed = route(*backend, {4, 2}, logits, {0, 0, 0, 9});
  EXPECT_EQ(routed.experts, (std::vector<int32_t>{0, 3}));
  EXPECT_NEAR(routed.weights[1], sigmoid(-1) / (sigmoid(2) + sigmoid(-1)), 1e-6);
}

TEST_P(Route, VanishingSigmoidsDoNotDivideByZero) {
  const Routed routed = route(*backend, {4, 2}, std::vector<float>(4, -1000.0f), std::vector<float>(4, 0.0f));
  EXPECT_EQ(routed.weights, (std::vector<float>{0, 0}));
}

TEST_P(Route, NaNRowNamesDistinctExpertsInRangeAndSparesTheOthers) {
  const Case c{16, 4, 4, 2};
  Rng rng(3);
  std::vector<float> logits = rng.uniforms(3 * 16), bias(16, 0.0f);
  const Routed clean = route(*backend, c, logits, bias);
  std::fill_n(&logits[16], 16, std::numeric_limits<float>::quiet_NaN());
  const Routed routed = route(*backend, c, logits, bias);
  const std::set<int32_t> distinct(&routed.experts[4], &routed.experts[4] + 4);
  EXPECT_EQ(distinct.size(), 4u);
  EXPECT_GE(*distinct.begin(), 0);
  EXPECT_LT(*distinct.rbegin(), 16);
  for (int i : {0, 1, 2, 3, 8, 9, 10, 11}) {
    EXPECT_EQ(routed.experts[i], clean.experts[i]);
    EXPECT_EQ(routed.weights[i], clean.weights[i]);
  }
}

TEST_P(Route, NoRows) { EXPECT_TRUE(route(*backend, {8, 2}, {}, std::vector<float>(8)).experts.empty()); }

TEST_P(Route, BatchInvariant) {
  const Case c{40, 6, 5, 3, 2.5f};
  Rng rng(4);
  const int64_t num_rows = 13;
  const std::vector<float> logits = rng.uniforms(num_rows * 40, -4, 4), bias = rng.uniforms(40);
  expect_batch_invariant(GetParam(), num_rows, [&](Backend& each, const std::vector<int64_t>& order) {
    std::vector<float> input;
    for (int64_t row : order) input.insert(input.end(), &logits[row * 40], &logits[row * 40] + 40);
    const Routed routed = route(each, c, input, bias);
    std::vector<std::vector<uint32_t>> results;
    for (size_t i = 0; i < order.size(); ++i) {
      results.push_back(bits_of(&routed.experts[i * 6], 6));
      const auto weights = bits_of(&routed.weights[i * 6], 6);
      results.back().insert(results.back().end(), weights.begin(), weights.end());
    }
    return results;
  });
}

}  // namespace
}  // namespace indexshare
