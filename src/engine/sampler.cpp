// SPDX-License-Identifier: Apache-2.0
#include "engine/sampler.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace indexshare {

namespace {

// Log of the sum of exponentials, in double and in order of id: the same on every machine to the last digits
// shown.
double log_sum_exp(std::span<const float> logits) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float logit : logits) sum += std::exp(logit - top);
  return top + std::log(sum);
}

}  // namespace

Sampler::Sampler(const SamplingOptions& options, std::span<const int32_t> prompt)
    : options_(options), random_(options.seed) {
  for (int32_t token : prompt) seen_[token] = true;
}

GeneratedToken Sampler::sample(std::span<const float> logits) {
  for (size_t i = 0; i < logits.size(); ++i)
    if (!std::isfinite(logits[i])) fail(ErrorCode::numerical, "logit of token {} is {}", i, logits[i]);
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) candidates_.push_back({static_cast<int32_t>(i), logits[i]});
  adjust(candidates_);
  GeneratedToken result;
  if (options_.temperature == 0)
    result.token = std::max_element(candidates_.begin(), candidates_.end(), [](auto& a, auto& b) {
                     return a.logit < b.logit;  // max_element keeps the first of equals: the lower id
                   })->token;
  else
    result.token = draw(candidates_);
  if (options_.logprobs >= 0) add_logprobs(logits, result);
  ++generated_counts_[result.token];
  seen_[result.token] = true;
  return result;
}

void Sampler::adjust(std::vector<Candidate>& candidates) const {
  for (const auto& [token, bias] : options_.logit_bias) candidates[token].logit += bias;
  if (options_.repetition_penalty != 1)
    for (const auto& [token, seen] : seen_) {
      float& logit = candidates[token].logit;
      logit = logit > 0 ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
    }
  if (options_.presence_penalty != 0 || options_.frequency_penalty != 0)
    for (const auto& [token, count] : generated_counts_)
      candidates[token].logit -=
          options_.presence_penalty + options_.frequency_penalty * static_cast<float>(count);
}

int32_t Sampler::draw(std::vector<Candidate>& candidates) {
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  };
  size_t keep = candidates.size();
  if (options_.top_k > 0) keep = std::min(keep, static_cast<size_t>(options_.top_k));
  std::partial_sort(candidates.begin(), candidates.begin() + static_cast<int64_t>(keep), candidates.end(),
                    better);
  candidates.resize(keep);

  std::vector<double> weights;  // unnormalised probabilities, the most likely being 1
  double total = 0;
  for (const Candidate& c : candidates) {
    weights.push_back(std::exp((static_cast<double>(c.logit) - candidates[0].logit) / options_.temperature));
    total += weights.back();
  }
  // top-p keeps the fewest whose share reaches p; min-p then drops those far below the most likely.
  double kept_total = 0;
  size_t kept = 0;
  while (kept < weights.size() &&
         (kept == 0 || (kept_total < options_.top_p * total && weights[kept] >= options_.min_p)))
    kept_total += weights[kept++];

  const double uniform = static_cast<double>(random_() >> 11) * 0x1p-53;  // [0, 1)
  double remaining = uniform * kept_total;
  for (size_t i = 0; i + 1 < kept; ++i) {
    remaining -= weights[i];
    if (remaining < 0) return candidates[i].token;
  }
  return candidates[kept - 1].token;
}

void Sampler::add_logprobs(std::span<const float> logits, GeneratedToken& result) const {
  const double normaliser = log_sum_exp(logits);
  result.logprob = static_cast<float>(logits[result.token] - normaliser);
  std::vector<int32_t> order(logits.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int32_t>(i);
  const size_t n = std::min(order.size(), static_cast<size_t>(options_.logprobs));
  std::partial_sort(
      order.begin(), order.begin() + static_cast<int64_t>(n), order.end(),
      [&](int32_t a, int32_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  for (size_t i = 0; i < n; ++i)
    result.top_logprobs.push_back({order[i], static_cast<float>(logits[order[i]] - normaliser)});
}

}  // namespace indexshare
