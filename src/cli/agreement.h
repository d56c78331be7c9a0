// SPDX-License-Identifier: Apache-2.0
// How far one engine's answers are from another's over a text.
#pragma once

#include <functional>
#include <span>

#include "indexshare/engine.h"

namespace indexshare::cli {

/// Over tokens scored: all but the first of each window.
struct Agreement {
  int64_t scored_tokens = 0;
  double reference_nats = 0, nats = 0;              // mean negative log-likelihood under each
  double kl_divergence = 0, kl_standard_error = 0;  // mean of sum p_ref (log p_ref - log p), nats a token
  double same_top_token = 0;                        // share of tokens

  double reference_perplexity() const;
  double perplexity() const;
};

/// Both read windows of `ctx` tokens, one after the other, a few rows at a time: memory for their logits is
/// small.
Agreement compare_engines(Engine& reference, Engine& engine, std::span<const int32_t> tokens, int64_t ctx,
                          const Progress& progress);

}  // namespace indexshare::cli
