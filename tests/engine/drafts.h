// SPDX-License-Identifier: Apache-2.0
// What the tests of drafting share. "tiny-glm-mtp" has drafts of which some come true; of the two others with
// an MTP layer no part is like another.
#pragma once

#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "fixture.h"

namespace indexshare {

inline constexpr const char* kDraftingModel = "tiny-glm-mtp";

inline Request greedy_request(std::vector<int32_t> tokens, int64_t max_tokens = 40) {
  Request r;
  r.tokens = std::move(tokens);
  r.sampling = {.max_tokens = max_tokens, .temperature = 0, .logprobs = 3, .ignore_eos = true};
  return r;
}

inline uint64_t sum(const std::vector<uint64_t>& counts) {
  return std::accumulate(counts.begin(), counts.end(), uint64_t{0});
}

/// (position, step) -> draft logits
using Drafts = std::map<std::pair<int64_t, int64_t>, std::vector<float>>;

inline Drafts drafts_of(Engine& e, SequenceId sequence, std::span<const int32_t> tokens) {
  Drafts drafts;
  e.evaluate(sequence, tokens,
             {.draft_sink = [&](int64_t position, int64_t step, std::span<const float> row) {
               drafts[{position, step}].assign(row.begin(), row.end());
             }});
  return drafts;
}

inline Drafts drafts_of(Engine& e, std::span<const int32_t> tokens) {
  const SequenceId s = e.create_sequence();
  Drafts drafts = drafts_of(e, s, tokens);
  e.release(s);
  return drafts;
}

}  // namespace indexshare
