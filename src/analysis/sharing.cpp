// SPDX-License-Identifier: Apache-2.0
// analyze_sharing: the same text under several plans side by side, so that outputs can be compared row by row
// without keeping logits of more than one chunk.
#include <algorithm>
#include <deque>

#include "analysis/arm.h"
#include "analysis/needle.h"
#include "base/check.h"
#include "indexshare/output_distance.h"
#include "model/share_plan.h"

namespace indexshare {

namespace {

constexpr int64_t kLogitsKept = int64_t{1} << 24;  // of one arm at a time: 64 MiB

RowsOfInterest rows_of_interest(const ModelInfo& info, int64_t num_tokens, const SharingOptions& options) {
  RowsOfInterest rows{.sampled = spread_rows(info.index_topk, num_tokens - 1, options.num_rows),
                      .first_scored = info.index_topk,
                      .end_scored = num_tokens - 1};
  if (!options.needle.empty())
    rows.needle = spread_rows(num_tokens - options.needle_rows, num_tokens - 1, options.needle_rows);
  return rows;
}

void check(const Engine& engine, std::span<const int32_t> tokens, const SharingOptions& options) {
  const ModelInfo& info = engine.info();
  const int64_t num_tokens = std::ssize(tokens);
  if (info.full_layers.empty())
    fail(ErrorCode::invalid_argument, "{}: no layer selects, as index_topk is 0 or attention is dense",
         info.directory);
  if (num_tokens <= info.index_topk + 1)
    fail(ErrorCode::invalid_argument,
         "text: expected at least {} tokens, found {}: rows that see no more than index_topk = {} positions "
         "choose nothing",
         info.index_topk + 2, num_tokens, info.index_topk);
  if (options.num_rows < 1)
    fail(ErrorCode::invalid_argument, "num_rows: expected at least 1, found {}", options.num_rows);
  if (options.needle_rows < 1 || options.needle_rows > num_tokens)
    fail(ErrorCode::invalid_argument, "needle_rows: expected 1 to {}, found {}", num_tokens,
         options.needle_rows);
  for (const int64_t position : options.needle)
    if (position < 0 || position >= num_tokens)
      fail(ErrorCode::invalid_argument, "needle: expected positions below {}, found {}", num_tokens,
           position);
}

/// Outputs of two arms, row by row.
class OutputPair {
 public:
  OutputPair(const Arm& reference, const Arm& tested) : reference_(reference), tested_(tested) {}

  void compare(int64_t position, int32_t next_token) {
    const auto p = reference_.logits(position), q = tested_.logits(position);
    const OutputDistance distance = output_distance(p, q);
    kl_.add(distance.kl);
    top1_.add(distance.same_top1 ? 1 : 0);
    loss_.add(negative_log_likelihood(q, next_token) - negative_log_likelihood(p, next_token));
  }

  OutputComparison result() const {
    return {.reference = reference_.name(),
            .tested = tested_.name(),
            .kl = kl_.get(),
            .top1_agreement = top1_.mean(),
            .loss_difference = loss_.get()};
  }

 private:
  const Arm &reference_, &tested_;
  RunningEstimate kl_, top1_, loss_;
};

class Analysis {
 public:
  Analysis(Engine& engine, std::span<const int32_t> tokens, const SharingOptions& options)
      : engine_(engine), tokens_(tokens), options_(options) {
    const ModelInfo& info = engine.info();
    plan_ = SharePlan::from_pattern(options.pattern, info.num_layers, "pattern");
    rows_ = rows_of_interest(info, std::ssize(tokens), options);
    has_own_ = std::ssize(info.full_layers) == info.num_layers;
    if (options.dense) add_arm("dense", "", true);
    if (has_own_) add_arm("every_layer", std::string(static_cast<size_t>(info.num_layers), 'F'), false);
    add_arm("shared", options.pattern, false);
    for (size_t i = 0; i < arms_.size(); ++i)
      for (size_t j = i + 1; j < arms_.size(); ++j) pairs_.emplace_back(arms_[i], arms_[j]);
    losses_.resize(arms_.size());
  }

  ~Analysis() {
    for (Arm& arm : arms_) arm.release();
  }
  Analysis(const Analysis&) = delete;
  Analysis& operator=(const Analysis&) = delete;

  SharingReport run() {
    const int64_t num_tokens = std::ssize(tokens_);
    const int64_t chunk = std::clamp<int64_t>(kLogitsKept / engine_.info().vocab_size, 16, 512);
    for (int64_t begin = 0; begin < num_tokens; begin += chunk)
      run_chunk(begin, std::min(begin + chunk, num_tokens));
    return report();
  }

 private:
  void add_arm(std::string name, std::string pattern, bool dense) {
    arms_.emplace_back(engine_,
                       Arm::Settings{.name = std::move(name),
                                     .pattern = std::move(pattern),
                                     .dense = dense,
                                     .source = plan_.source,
                                     .needle = options_.needle},
                       rows_);
  }

  void run_chunk(int64_t begin, int64_t end) {
    const int64_t total = std::ssize(tokens_) * std::ssize(arms_);
    for (size_t i = 0; i < arms_.size(); ++i) {
      const int64_t before = begin * std::ssize(arms_) + static_cast<int64_t>(i) * (end - begin);
      arms_[i].run(tokens_, begin, end, [&](int64_t done, int64_t) {
        if (options_.progress) options_.progress(before + done, total);
      });
    }
    for (int64_t row = std::max(begin, rows_.first_scored); row < std::min(end, rows_.end_scored); ++row) {
      const int32_t next = tokens_[static_cast<size_t>(row + 1)];
      for (size_t i = 0; i < arms_.size(); ++i)
        losses_[i].add(negative_log_likelihood(arms_[i].logits(row), next));
      for (OutputPair& pair : pairs_) pair.compare(row, next);
    }
  }

  SharingReport report() const {
    const ModelInfo& info = engine_.info();
    SharingReport r{.pattern = options_.pattern,
                    .has_own = has_own_,
                    .num_tokens = std::ssize(tokens_),
                    .topk = info.index_topk,
                    .num_rows = std::ssize(rows_.sampled),
                    .first_row = rows_.first_scored,
                    .num_output_rows = rows_.end_scored - rows_.first_scored};
    const Arm& shared = arms_.back();
    const Arm& own = has_own_ ? arms_[arms_.size() - 2] : shared;
    for (int layer = 0; layer < info.num_layers; ++layer)
      if (has_own_ || plan_.is_full(layer)) r.layers.push_back(layer);
    r.overlap = overlap_matrix(own.selections(), r.layers);
    r.distances = overlap_by_distance(r.overlap, r.layers);
    for (int layer = 0; layer < info.num_layers; ++layer) {
      r.per_layer.push_back(layer_report(layer, own, shared));
      // Every layer is in r.layers here, so layers are their own indices.
      if (has_own_) r.per_layer.back().own_and_shared = r.overlap[layer][plan_.source[layer]];
    }
    for (size_t i = 0; i < arms_.size(); ++i) r.losses.push_back({arms_[i].name(), losses_[i].get()});
    for (const OutputPair& pair : pairs_) r.outputs.push_back(pair.result());
    return r;
  }

  LayerSharing layer_report(int layer, const Arm& own, const Arm& shared) const {
    const Arm::LayerMeans &in_own = own.layers()[layer], &in_shared = shared.layers()[layer];
    LayerSharing l{.layer = layer,
                   .source = plan_.source[layer],
                   .as_run = in_shared.attended(),
                   .as_run_oracle = in_shared.oracle()};
    if (has_own_) {
      l.own = in_own.attended();
      l.shared = in_own.shared();
      l.oracle = in_own.oracle();
    }
    if (options_.needle.empty()) return l;
    if (has_own_) l.needle_own = in_own.recall.mean();
    l.needle_as_run = in_shared.recall.mean();
    return l;
  }

  Engine& engine_;
  std::span<const int32_t> tokens_;
  const SharingOptions& options_;
  SharePlan plan_;
  RowsOfInterest rows_;
  bool has_own_ = false;  // arms_: [dense,] [every_layer,] shared
  std::deque<Arm> arms_;  // a deque: pairs_ point at them
  std::vector<OutputPair> pairs_;
  std::vector<RunningEstimate> losses_;  // [arms]
};

}  // namespace

SharingReport analyze_sharing(Engine& engine, std::span<const int32_t> tokens,
                              const SharingOptions& options) {
  check(engine, tokens, options);
  return Analysis(engine, tokens, options).run();
}

}  // namespace indexshare
