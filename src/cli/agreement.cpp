// SPDX-License-Identifier: Apache-2.0
#include "agreement.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "indexshare/estimate.h"
#include "indexshare/output_distance.h"

namespace indexshare::cli {
namespace {

constexpr int64_t kRows = 64;  // of logits held at a time

class Comparison {
 public:
  void add(std::span<const float> reference, std::span<const float> other, int32_t next) {
    const OutputDistance distance = output_distance(reference, other);
    kl_.add(distance.kl);
    same_top_ += distance.same_top1;
    reference_nats_ += negative_log_likelihood(reference, next);
    nats_ += negative_log_likelihood(other, next);
  }

  Agreement result() const {
    const auto n = static_cast<double>(kl_.count());
    return {.scored_tokens = kl_.count(),
            .reference_nats = reference_nats_ / n,
            .nats = nats_ / n,
            .kl_divergence = kl_.mean(),
            .kl_standard_error = kl_.standard_error(),
            .same_top_token = static_cast<double>(same_top_) / n};
  }

 private:
  RunningEstimate kl_;
  int64_t same_top_ = 0;
  double reference_nats_ = 0, nats_ = 0;
};

// The logits of the next rows, [tokens.size(), vocab].
void read_rows(Engine& engine, SequenceId sequence, std::span<const int32_t> tokens,
               std::vector<float>& logits) {
  logits.clear();
  EvaluateOptions options;
  options.sink = [&](int64_t, std::span<const float> row) {
    logits.insert(logits.end(), row.begin(), row.end());
  };
  engine.evaluate(sequence, tokens, options);
}

}  // namespace

double Agreement::reference_perplexity() const { return std::exp(reference_nats); }
double Agreement::perplexity() const { return std::exp(nats); }

Agreement compare_engines(Engine& reference, Engine& engine, std::span<const int32_t> tokens, int64_t ctx,
                          const Progress& progress) {
  const auto num_tokens = static_cast<int64_t>(tokens.size());
  const auto vocab = static_cast<size_t>(reference.info().vocab_size);
  Comparison comparison;
  std::vector<float> expected, found;
  for (int64_t begin = 0; begin + 1 < num_tokens; begin += ctx) {
    const int64_t end = std::min(begin + ctx, num_tokens);
    const SequenceId in_reference = reference.create_sequence(), in_engine = engine.create_sequence();
    for (int64_t first = begin; first + 1 < end; first += kRows) {
      const int64_t count = std::min(kRows, end - 1 - first);
      read_rows(reference, in_reference, tokens.subspan(first, count), expected);
      read_rows(engine, in_engine, tokens.subspan(first, count), found);
      for (int64_t row = 0; row < count; ++row)
        comparison.add(std::span(expected).subspan(row * vocab, vocab),
                       std::span(found).subspan(row * vocab, vocab), tokens[first + row + 1]);
      progress(first + count, num_tokens);
    }
    reference.release(in_reference);
    engine.release(in_engine);
  }
  return comparison.result();
}

}  // namespace indexshare::cli
