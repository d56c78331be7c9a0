// SPDX-License-Identifier: Apache-2.0
// Sampler: from logits to a token. Order: logit bias, penalties, then (unless greedy) temperature, top-k,
// top-p, min-p, and one draw. The same seed gives the same tokens on every machine given the same logits.
// Drafted tokens pass by rejection sampling (Leviathan et al. 2023): a draft drawn from q is kept with
// probability min(1, p/q), else the token is drawn from what p has more than q: its distribution is p either
// way.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <unordered_map>
#include <vector>

#include "indexshare/engine.h"
#include "indexshare/options.h"

namespace indexshare {

struct TokenProbability {
  int32_t token = 0;
  double probability = 0;
};

/// A drafted token and what it was drawn from: all the probability on the token itself where greedy.
struct Draft {
  int32_t token = 0;
  double probability = 1;
  std::vector<TokenProbability> distribution;
};

class Sampler {
 public:
  /// @param prompt counts for the repetition penalty (not for presence and frequency, as in vLLM).
  Sampler(const SamplingOptions& options, std::span<const int32_t> prompt);

  /// Draws a token from logits [vocab] and remembers it for the penalties. Ties go to the lower id.
  /// @throws Error{numerical} where a logit is NaN or infinite.
  GeneratedToken sample(std::span<const float> logits);

  /// Drafts the next token from the MTP layer's logits and remembers it for the penalties of those behind it,
  /// until forget(). Nothing where a logit is NaN or infinite.
  std::optional<Draft> draft(std::span<const float> logits);
  void forget(std::span<const Draft> drafts);

  struct Verdict {
    GeneratedToken token;
    bool accepted = false;  // it is the drafted one
  };
  /// As sample(), but the token is the drafted one whenever the distribution allows it.
  Verdict verify(std::span<const float> logits, const Draft& draft);

 private:
  struct Candidate {
    int32_t token;
    float logit;
  };

  void score(std::span<const float> logits);
  void adjust(std::vector<Candidate>& candidates) const;
  int32_t best() const;
  std::vector<TokenProbability> distribution();
  int32_t pick(std::span<const TokenProbability> distribution, std::mt19937_64& random) const;
  int32_t settle(const Draft& draft);
  GeneratedToken finish(std::span<const float> logits, int32_t token);
  void remember(int32_t token);
  void add_logprobs(std::span<const float> logits, GeneratedToken& token) const;

  SamplingOptions options_;
  std::mt19937_64 random_, draft_random_;
  std::unordered_map<int32_t, int64_t> generated_counts_;
  std::unordered_map<int32_t, int64_t> seen_;  // in prompt or output, so many times
  std::vector<Candidate> candidates_;          // scratch
};

}  // namespace indexshare
