// SPDX-License-Identifier: Apache-2.0
#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "indexshare/error.h"

namespace indexshare {
namespace {

// How often each token is drawn in n tries, from a fresh sampler's stream.
std::vector<double> frequencies(SamplingOptions options, const std::vector<float>& logits, int n = 40000) {
  Sampler sampler(options, {});
  std::vector<double> share(logits.size());
  for (int i = 0; i < n; ++i) share[sampler.sample(logits).token] += 1.0 / n;
  return share;
}

TEST(Sampler, GreedyTakesTheLargestAndTheLowestIdOfEquals) {
  Sampler s({.temperature = 0}, {});
  EXPECT_EQ(s.sample(std::vector<float>{1, 5, 5, 2}).token, 1);
}

TEST(Sampler, FollowsTheDistribution) {
  const auto share = frequencies({}, {std::log(1.f), std::log(2.f), std::log(7.f)});
  EXPECT_NEAR(share[0], 0.1, 0.01);
  EXPECT_NEAR(share[1], 0.2, 0.01);
  EXPECT_NEAR(share[2], 0.7, 0.01);
}

TEST(Sampler, TemperatureSharpens) {
  const auto share = frequencies({.temperature = 0.5f}, {std::log(1.f), std::log(3.f)});
  EXPECT_NEAR(share[1], 0.9, 0.01);  // 3^2 / (1 + 3^2)
}

TEST(Sampler, TopKTopPAndMinPCutTheTail) {
  const std::vector<float> logits = {std::log(5.f), std::log(3.f), std::log(1.5f), std::log(.5f)};
  EXPECT_EQ(frequencies({.top_k = 2}, logits)[2], 0);
  EXPECT_NEAR(frequencies({.top_k = 2}, logits)[0], 5. / 8, 0.01);
  EXPECT_EQ(frequencies({.top_p = 0.79f}, logits)[2], 0);
  EXPECT_GT(frequencies({.top_p = 0.81f}, logits)[2], 0);
  EXPECT_EQ(frequencies({.min_p = 0.5f}, logits)[2], 0);
  EXPECT_GT(frequencies({.min_p = 0.5f}, logits)[1], 0);
}

TEST(Sampler, TheSameSeedGivesTheSameTokens) {
  const std::vector<float> logits(50, 0);
  Sampler a({.seed = 7}, {}), b({.seed = 7}, {}), c({.seed = 8}, {});
  int equal_to_c = 0;
  for (int i = 0; i < 200; ++i) {
    const int32_t token = a.sample(logits).token;
    EXPECT_EQ(token, b.sample(logits).token);
    equal_to_c += token == c.sample(logits).token;
  }
  EXPECT_LT(equal_to_c, 40);
}

TEST(Sampler, Penalties) {
  const std::vector<int32_t> prompt = {2};
  Sampler repetition({.temperature = 0, .repetition_penalty = 2}, prompt);
  EXPECT_EQ(repetition.sample(std::vector<float>{1, 1.5f, 2.5f}).token, 1);  // 2.5 / 2 < 1.5
  Sampler presence({.temperature = 0, .presence_penalty = 1}, prompt);
  EXPECT_EQ(presence.sample(std::vector<float>{0, 0, .5f}).token, 2);  // the prompt does not count
  EXPECT_EQ(presence.sample(std::vector<float>{0, 0, .5f}).token, 0);
  Sampler frequency({.temperature = 0, .frequency_penalty = 0.3f}, {});
  EXPECT_EQ(frequency.sample(std::vector<float>{0, .5f}).token, 1);
  EXPECT_EQ(frequency.sample(std::vector<float>{0, .5f}).token, 1);
  EXPECT_EQ(frequency.sample(std::vector<float>{0, .5f}).token, 0);
}

TEST(Sampler, LogitBiasAndLogprobs) {
  Sampler s({.temperature = 0, .logprobs = 2, .logit_bias = {{0, 100.f}}}, {});
  const GeneratedToken token = s.sample(std::vector<float>{0, std::log(3.f), 0});
  EXPECT_EQ(token.token, 0);
  EXPECT_NEAR(token.logprob, std::log(1. / 5), 1e-6);  // of the model, bias apart
  ASSERT_EQ(token.top_logprobs.size(), 2u);
  EXPECT_EQ(token.top_logprobs[0].token, 1);
  EXPECT_NEAR(token.top_logprobs[0].logprob, std::log(3. / 5), 1e-6);
  EXPECT_EQ(token.top_logprobs[1].token, 0);
}

TEST(Sampler, RefusesLogitsThatAreNotFinite) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Sampler s({}, {});
    EXPECT_THROW(s.sample(std::vector<float>{0, bad}), Error);
  }
}

}  // namespace
}  // namespace indexshare
