// SPDX-License-Identifier: Apache-2.0
#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <random>

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

// Two tokens of a model whose second distribution depends on the first, drafted from other distributions: how
// often each pair comes, against the product of the target's own probabilities.
class Speculation : public ::testing::TestWithParam<SamplingOptions> {
 protected:
  static constexpr size_t kVocab = 6;
  using Table =
      std::vector<std::vector<float>>;  // [1 + kVocab] logits: of the first token, behind each token

  static Table random_table(uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal(0, 1.3f);
    Table table(1 + kVocab, std::vector<float>(kVocab));
    for (auto& row : table)
      for (float& x : row) x = normal(random);
    return table;
  }

  std::vector<int64_t> pairs(int64_t n, const std::function<std::pair<int32_t, int32_t>(Sampler&)>& round,
                             uint64_t seed) const {
    std::vector<int64_t> counts(kVocab * kVocab);
    for (int64_t i = 0; i < n; ++i) {
      SamplingOptions options = GetParam();
      options.seed = seed + static_cast<uint64_t>(i);
      Sampler sampler(options, std::vector<int32_t>{1, 3});
      const auto [first, second] = round(sampler);
      ++counts[first * kVocab + second];
    }
    return counts;
  }
};

TEST_P(Speculation, KeepsTheTargetsDistribution) {
  constexpr int64_t kRounds = 60000;
  const Table target = random_table(1), drafts = random_table(2);
  int64_t accepted = 0;
  const auto plain = pairs(
      kRounds,
      [&](Sampler& s) {
        const int32_t first = s.sample(target[0]).token;
        return std::pair{first, s.sample(target[1 + first]).token};
      },
      1);
  const auto drafted = pairs(
      kRounds,
      [&](Sampler& s) {
        std::vector<Draft> proposed = {*s.draft(drafts[0])};
        proposed.push_back(*s.draft(drafts[1 + proposed[0].token]));
        s.forget(proposed);
        const auto first = s.verify(target[0], proposed[0]);
        if (!first.accepted)
          return std::pair{first.token.token, s.sample(target[1 + first.token.token]).token};
        const auto second = s.verify(target[1 + first.token.token], proposed[1]);
        accepted += second.accepted;
        return std::pair{first.token.token, second.token.token};
      },
      1000000);
  EXPECT_GT(accepted, kRounds / 50);
  EXPECT_LT(accepted, kRounds * 9 / 10);
  // Two samples of one distribution: sum (a - b)^2 / (a + b) follows chi-square with a degree less than there
  // are cells. 99.9 % of it lie below df + 3.1 sqrt(2 df) + 6.
  double chi_square = 0;
  int degrees = -1;
  for (size_t i = 0; i < plain.size(); ++i) {
    if (plain[i] + drafted[i] == 0) continue;
    const auto difference = static_cast<double>(plain[i] - drafted[i]);
    chi_square += difference * difference / static_cast<double>(plain[i] + drafted[i]);
    ++degrees;
  }
  EXPECT_LT(chi_square, degrees + 3.1 * std::sqrt(2.0 * degrees) + 6);
}

INSTANTIATE_TEST_SUITE_P(Options, Speculation,
                         ::testing::Values(SamplingOptions{}, SamplingOptions{.temperature = 0.6f},
                                           SamplingOptions{.top_k = 3}, SamplingOptions{.top_p = 0.8f},
                                           SamplingOptions{.temperature = 1.5f, .min_p = 0.2f},
                                           SamplingOptions{.repetition_penalty = 1.7f,
                                                           .presence_penalty = 0.8f,
                                                           .frequency_penalty = 0.5f,
                                                           .logit_bias = {{2, 1.5f}}}));

TEST(Sampler, DraftsAreForgotten) {
  const SamplingOptions options{.temperature = 0, .presence_penalty = 5};
  Sampler a(options, {}), b(options, {});
  const std::vector<float> logits = {3, 2, 1};
  std::vector<Draft> drafts = {*a.draft(logits), *a.draft(logits)};
  EXPECT_EQ(drafts[0].token, 0);
  EXPECT_EQ(drafts[1].token, 1);  // the first draft is penalised already
  a.forget(drafts);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(a.sample(logits).token, b.sample(logits).token);
  EXPECT_FALSE(a.draft(std::vector<float>{0, std::nanf(""), 0}).has_value());
}

TEST(Sampler, EqualDistributionsAcceptEverything) {
  Sampler s({.temperature = 0.7f, .top_p = 0.9f}, {});
  const std::vector<float> logits = {1, 2, 0.5f, -1};
  for (int i = 0; i < 2000; ++i) {
    const Draft draft = *s.draft(logits);
    s.forget({&draft, 1});
    EXPECT_TRUE(s.verify(logits, draft).accepted);
  }
}

}  // namespace
}  // namespace indexshare
