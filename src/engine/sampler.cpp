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

namespace {

// [0, 1)
double uniform(std::mt19937_64& random) { return static_cast<double>(random() >> 11) * 0x1p-53; }

double probability_of(std::span<const TokenProbability> distribution, int32_t token) {
  for (const TokenProbability& entry : distribution)
    if (entry.token == token) return entry.probability;
  return 0;
}

// What p has more than q, not normalised.
std::vector<TokenProbability> excess(std::span<const TokenProbability> p,
                                     std::span<const TokenProbability> q) {
  std::unordered_map<int32_t, double> drafted;
  for (const TokenProbability& entry : q) drafted[entry.token] = entry.probability;
  std::vector<TokenProbability> rest;
  for (const auto& [token, probability] : p) {
    const auto found = drafted.find(token);
    const double more = probability - (found == drafted.end() ? 0 : found->second);
    if (more > 0) rest.push_back({token, more});
  }
  return rest;
}

}  // namespace

Sampler::Sampler(const SamplingOptions& options, std::span<const int32_t> prompt)
    : options_(options),
      random_(options.seed),
      draft_random_(options.seed ^ 0x9e3779b97f4a7c15) {  // a stream of its own beside the target's
  for (int32_t token : prompt) ++seen_[token];
}

GeneratedToken Sampler::sample(std::span<const float> logits) {
  score(logits);
  return finish(logits, options_.temperature == 0 ? best() : pick(distribution(), random_));
}

std::optional<Draft> Sampler::draft(std::span<const float> logits) {
  if (!std::ranges::all_of(logits, [](float x) { return std::isfinite(x); })) return std::nullopt;
  score(logits);
  Draft draft;
  if (options_.temperature == 0) {
    draft.token = best();
  } else {
    draft.distribution = distribution();
    draft.token = pick(draft.distribution, draft_random_);
    draft.probability = probability_of(draft.distribution, draft.token);
  }
  remember(draft.token);
  return draft;
}

void Sampler::forget(std::span<const Draft> drafts) {
  for (const Draft& draft : drafts) {
    if (--generated_counts_[draft.token] == 0) generated_counts_.erase(draft.token);
    if (--seen_[draft.token] == 0) seen_.erase(draft.token);
  }
}

Sampler::Verdict Sampler::verify(std::span<const float> logits, const Draft& draft) {
  score(logits);
  const int32_t token = options_.temperature == 0 ? best() : settle(draft);
  return {.token = finish(logits, token), .accepted = token == draft.token};
}

// The drafted token with probability min(1, p/q), else one of those that q gave too little. The latter never
// is the drafted one: that p(d) < q(d) is why it was refused.
int32_t Sampler::settle(const Draft& draft) {
  const std::vector<TokenProbability> p = distribution();
  if (uniform(random_) * draft.probability < probability_of(p, draft.token)) return draft.token;
  const std::vector<TokenProbability> rest = excess(p, draft.distribution);
  return pick(rest.empty() ? p : rest, random_);
}

void Sampler::score(std::span<const float> logits) {
  for (size_t i = 0; i < logits.size(); ++i)
    if (!std::isfinite(logits[i])) fail(ErrorCode::numerical, "logit of token {} is {}", i, logits[i]);
  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) candidates_.push_back({static_cast<int32_t>(i), logits[i]});
  adjust(candidates_);
}

int32_t Sampler::best() const {
  return std::ranges::max_element(candidates_, {}, &Candidate::logit)->token;  // the lower id of equals
}

GeneratedToken Sampler::finish(std::span<const float> logits, int32_t token) {
  GeneratedToken result;
  result.token = token;
  if (options_.logprobs >= 0) add_logprobs(logits, result);
  remember(token);
  return result;
}

void Sampler::remember(int32_t token) {
  ++generated_counts_[token];
  ++seen_[token];
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

// What temperature, top-k, top-p and min-p leave of the candidates, the likeliest first.
std::vector<TokenProbability> Sampler::distribution() {
  const auto better = [](const Candidate& a, const Candidate& b) {
    return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
  };
  size_t keep = candidates_.size();
  if (options_.top_k > 0) keep = std::min(keep, static_cast<size_t>(options_.top_k));
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<int64_t>(keep), candidates_.end(),
                    better);
  candidates_.resize(keep);

  std::vector<TokenProbability> result;  // unnormalised at first, the most likely being 1
  double total = 0;
  for (const Candidate& c : candidates_) {
    const double weight =
        std::exp((static_cast<double>(c.logit) - candidates_[0].logit) / options_.temperature);
    result.push_back({c.token, weight});
    total += weight;
  }
  // top-p keeps the fewest whose share reaches p; min-p then drops those far below the most likely.
  double kept_total = 0;
  size_t kept = 0;
  while (kept < result.size() &&
         (kept == 0 || (kept_total < options_.top_p * total && result[kept].probability >= options_.min_p)))
    kept_total += result[kept++].probability;
  result.resize(kept);
  for (TokenProbability& entry : result) entry.probability /= kept_total;
  return result;
}

// `distribution` need not be normalised.
int32_t Sampler::pick(std::span<const TokenProbability> distribution, std::mt19937_64& random) const {
  double total = 0;
  for (const TokenProbability& entry : distribution) total += entry.probability;
  double remaining = uniform(random) * total;
  for (const auto& [token, probability] : distribution.first(distribution.size() - 1)) {
    remaining -= probability;
    if (remaining < 0) return token;
  }
  return distribution.back().token;
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
