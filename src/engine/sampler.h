// SPDX-License-Identifier: Apache-2.0
// Sampler: from logits to a token. Order: logit bias, penalties, then (unless greedy) temperature, top-k,
// top-p, min-p, and one draw. The same seed gives the same tokens on every machine given the same logits.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <unordered_map>
#include <vector>

#include "indexshare/engine.h"
#include "indexshare/options.h"

namespace indexshare {

class Sampler {
 public:
  /// @param prompt counts for the repetition penalty (not for presence and frequency, as in vLLM).
  Sampler(const SamplingOptions& options, std::span<const int32_t> prompt);

  /// Draws a token from logits [vocab] and remembers it for the penalties. Ties go to the lower id.
  /// @throws Error{numerical} where a logit is NaN or infinite.
  GeneratedToken sample(std::span<const float> logits);

 private:
  struct Candidate {
    int32_t token;
    float logit;
  };

  void adjust(std::vector<Candidate>& candidates) const;
  int32_t draw(std::vector<Candidate>& candidates);
  void add_logprobs(std::span<const float> logits, GeneratedToken& token) const;

  SamplingOptions options_;
  std::mt19937_64 random_;
  std::unordered_map<int32_t, int64_t> generated_counts_;
  std::unordered_map<int32_t, bool> seen_;  // in prompt or output
  std::vector<Candidate> candidates_;       // scratch
};

}  // namespace indexshare
