// SPDX-License-Identifier: Apache-2.0
// Greedy plan search. Rows that see at most index_topk positions attend all of them under every plan, so each
// window's first index_topk rows are run once, with every layer's index keys, and forked for each candidate:
// that reuse is exact. With tail_rows the rows up to the tail are reused too, from the plan of the step
// before: their latents are then not those that the candidate would have written.
#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "indexshare/analysis.h"
#include "indexshare/output_distance.h"
#include "model/share_plan.h"

namespace indexshare {

namespace {

constexpr double kReproduced = 1e-4;  // nats: what another machine's rounding may change, and no other model

/// Losses of patterns on the windows.
class LossMeter {
 public:
  LossMeter(Engine& engine, std::span<const std::vector<int32_t>> windows, int64_t tail_rows,
            const Progress& progress)
      : engine_(engine), windows_(windows), tail_rows_(tail_rows), progress_(progress) {
    for (const auto& window : windows) {
      common_.push_back(engine.create_sequence());
      evaluate(common_.back(), window, 0, common_rows(), every_layer(), nullptr);
    }
  }

  ~LossMeter() {
    for (const SequenceId sequence : common_) engine_.release(sequence);
    for (const SequenceId sequence : prefixes_) engine_.release(sequence);
  }
  LossMeter(const LossMeter&) = delete;
  LossMeter& operator=(const LossMeter&) = delete;

  std::string every_layer() const { return std::string(static_cast<size_t>(engine_.info().num_layers), 'F'); }

  /// Every row that has to choose runs under `pattern`.
  double exact(const std::string& pattern) { return mean_loss(common_, pattern); }

  /// As wanted: exact, or of the tail behind a prefix that ran under `behind`, whose full layers include
  /// those of `pattern`.
  double of_candidate(const std::string& pattern, const std::string& behind) {
    if (tail_rows_ == 0) return exact(pattern);
    if (behind != prefix_pattern_) run_prefixes(behind);
    return mean_loss(prefixes_, pattern);
  }

  int64_t scored_rows() const {
    int64_t rows = 0;
    for (const auto& window : windows_) rows += std::ssize(window) - 1 - common_rows();
    return rows;
  }
  int64_t candidate_rows() const {
    int64_t rows = 0;
    for (const auto& window : windows_) rows += std::ssize(window) - 1 - tail_begin(window);
    return rows;
  }
  int64_t prefix_rows() const { return tail_rows_ == 0 ? 0 : scored_rows() - candidate_rows(); }

  /// Tokens that will be run in all, for the progress.
  void expect(int64_t rows) { total_ = done_ + rows; }

 private:
  int64_t common_rows() const { return engine_.info().index_topk; }
  int64_t tail_begin(const std::vector<int32_t>& window) const {
    if (tail_rows_ == 0) return common_rows();
    return std::max(std::ssize(window) - 1 - tail_rows_, common_rows());
  }

  void run_prefixes(const std::string& pattern) {
    for (const SequenceId sequence : prefixes_) engine_.release(sequence);
    prefixes_.clear();
    for (size_t i = 0; i < windows_.size(); ++i) {
      prefixes_.push_back(engine_.fork(common_[i]));
      evaluate(prefixes_.back(), windows_[i], common_rows(), tail_begin(windows_[i]), pattern, nullptr);
    }
    prefix_pattern_ = pattern;
  }

  double mean_loss(const std::vector<SequenceId>& prefixes, const std::string& pattern) {
    double sum = 0;
    int64_t rows = 0;
    for (size_t i = 0; i < windows_.size(); ++i) {
      const std::vector<int32_t>& window = windows_[i];
      const SequenceId sequence = engine_.fork(prefixes[i]);
      try {
        const int64_t begin = engine_.length(sequence), end = std::ssize(window) - 1;
        evaluate(sequence, window, begin, end, pattern, &sum);
        rows += end - begin;
      } catch (...) {
        engine_.release(sequence);
        throw;
      }
      engine_.release(sequence);
    }
    return sum / static_cast<double>(rows);
  }

  // Rows [begin, end) of a window; their losses are added to *sum where wanted.
  void evaluate(SequenceId sequence, const std::vector<int32_t>& window, int64_t begin, int64_t end,
                const std::string& pattern, double* sum) {
    if (begin >= end) return;
    EvaluateOptions options{.all_rows = sum != nullptr, .pattern = pattern};
    if (sum != nullptr)
      options.sink = [&](int64_t position, std::span<const float> logits) {
        *sum += negative_log_likelihood(logits, window[static_cast<size_t>(position + 1)]);
      };
    const int64_t before = done_;
    options.progress = [&](int64_t done, int64_t) {
      done_ = before + done;
      if (progress_) progress_(done_, std::max(total_, done_));
    };
    engine_.evaluate(sequence,
                     std::span(window).subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin)),
                     options);
  }

  Engine& engine_;
  std::span<const std::vector<int32_t>> windows_;
  int64_t tail_rows_;
  const Progress& progress_;
  int64_t done_ = 0, total_ = 0;
  std::vector<SequenceId> common_;    // [windows] the rows that are the same under every plan
  std::vector<SequenceId> prefixes_;  // [windows] rows before the tail, under prefix_pattern_
  std::string prefix_pattern_;
};

void check(const Engine& engine, std::span<const std::vector<int32_t>> windows,
           const PlanSearchOptions& options) {
  const ModelInfo& info = engine.info();
  if (std::ssize(info.full_layers) != info.num_layers || info.cost_only)
    fail(ErrorCode::unsupported,
         "{}: a plan search needs an indexer in every layer, loaded by every_layer; {} of {} layers have one",
         info.directory, info.cost_only ? 0 : info.full_layers.size(), info.num_layers);
  if (options.num_flips < 1 || options.num_flips > info.num_layers - 1)
    fail(ErrorCode::invalid_argument, "num_flips: expected 1 to {} (layer 0 stays full), found {}",
         info.num_layers - 1, options.num_flips);
  if (options.tail_rows < 0)
    fail(ErrorCode::invalid_argument, "tail_rows: expected 0 (exact) or more, found {}", options.tail_rows);
  if (windows.empty()) fail(ErrorCode::invalid_argument, "windows: expected at least one, found none");
  for (const auto& window : windows)
    if (std::ssize(window) <= info.index_topk + 1)
      fail(ErrorCode::invalid_argument,
           "windows: expected at least {} tokens each, found {}: rows that see no more than index_topk = {} "
           "positions are the same under every plan",
           info.index_topk + 2, window.size(), info.index_topk);
}

std::string flipped(std::string pattern, int layer) {
  pattern[static_cast<size_t>(layer)] = 'S';
  return pattern;
}

class Search {
 public:
  Search(Engine& engine, std::span<const std::vector<int32_t>> windows, const PlanSearchOptions& options)
      : options_(options),
        state_(options.resume),
        meter_(engine, windows, options.tail_rows, options.progress) {
    expect_rows(meter_.every_layer());
  }

  PlanSearchResult run() {
    const std::string every_layer = meter_.every_layer();
    const double every_layer_loss = meter_.exact(every_layer);
    const bool resumed = !state_.steps.empty() || !state_.pending.empty();
    if (resumed) check_reproduced(every_layer, every_layer_loss);
    state_.every_layer_loss = every_layer_loss;
    while (std::ssize(state_.steps) < options_.num_flips) take_step();
    if (std::ssize(state_.steps) > options_.num_flips) state_.pending.clear();
    state_.steps.resize(static_cast<size_t>(options_.num_flips));
    return compare(every_layer);
  }

 private:
  std::string pattern() const {
    return state_.steps.empty() ? meter_.every_layer() : state_.steps.back().pattern;
  }

  // A resumed state may come from a longer or shorter search of the same kind, but not from another model.
  void check_reproduced(const std::string& every_layer, double loss) const {
    if (!(std::fabs(loss - state_.every_layer_loss) <= kReproduced))
      fail(
          ErrorCode::invalid_argument,
          "resume: expected a loss of {:.6f} with an indexer in every layer, as this model has on this text, "
          "found {:.6f}",
          loss, state_.every_layer_loss);
    std::string expected = every_layer;
    for (const PlanSearchStep& step : state_.steps) {
      const bool can_flip =
          step.layer > 0 && step.layer < std::ssize(expected) && expected[step.layer] == 'F';
      if (can_flip) expected = flipped(expected, step.layer);
      if (!can_flip || step.pattern != expected)
        fail(ErrorCode::invalid_argument,
             "resume: expected a step to flip one full layer, found {} for layer {}", step.pattern,
             step.layer);
    }
    for (const CandidateLoss& candidate : state_.pending)
      if (candidate.layer < 1 || candidate.layer >= std::ssize(expected) || expected[candidate.layer] != 'F')
        fail(ErrorCode::invalid_argument,
             "resume: expected pending candidates among the full layers of {}, found {}", expected,
             candidate.layer);
  }

  void take_step() {
    const std::string before = pattern();
    for (int layer = 1; layer < std::ssize(before); ++layer) {
      const bool known =
          std::ranges::find(state_.pending, layer, &CandidateLoss::layer) != state_.pending.end();
      if (before[layer] != 'F' || known) continue;
      state_.pending.push_back({layer, meter_.of_candidate(flipped(before, layer), before)});
      if (options_.on_candidate) options_.on_candidate(state_);
    }
    const CandidateLoss best = *std::ranges::min_element(state_.pending, [](const auto& a, const auto& b) {
      return a.loss != b.loss ? a.loss < b.loss : a.layer < b.layer;
    });
    state_.steps.push_back({.pattern = flipped(before, best.layer),
                            .layer = best.layer,
                            .loss = best.loss,
                            .candidates = std::move(state_.pending)});
    state_.pending.clear();
    if (options_.on_candidate) options_.on_candidate(state_);
  }

  PlanSearchResult compare(const std::string& every_layer) {
    PlanSearchResult result{.state = state_, .pattern = pattern(), .scored_tokens = meter_.scored_rows()};
    const int num_layers = static_cast<int>(every_layer.size());
    const auto add = [&](const std::string& name, const std::string& plan) {
      const auto same = std::ranges::find(result.comparisons, plan, &PlanLoss::pattern);
      const double loss = same != result.comparisons.end() ? same->loss : meter_.exact(plan);
      result.comparisons.push_back({name, plan, loss});
    };
    result.comparisons.push_back({"every layer", every_layer, state_.every_layer_loss});
    if (options_.tail_rows == 0)
      result.comparisons.push_back({"searched", result.pattern, state_.steps.back().loss});
    else
      add("searched", result.pattern);
    add("uniform", uniform_pattern(num_layers, num_layers - options_.num_flips));
    for (const auto& [name, plan] : options_.compared) add(name, plan);
    return result;
  }

  // What is left to be run, so that the progress knows its end.
  void expect_rows(const std::string& every_layer) {
    const int64_t layers = std::ssize(every_layer), exact = meter_.scored_rows();
    int64_t rows = exact * (2 + std::ssize(options_.compared) + (options_.tail_rows > 0 ? 1 : 0));
    for (int64_t step = std::ssize(state_.steps); step < options_.num_flips; ++step)
      rows += (layers - 1 - step) * meter_.candidate_rows() + meter_.prefix_rows();
    meter_.expect(rows - std::ssize(state_.pending) * meter_.candidate_rows());
  }

  const PlanSearchOptions& options_;
  PlanSearchState state_;
  LossMeter meter_;
};

}  // namespace

std::string uniform_pattern(int num_layers, int num_full) {
  std::string pattern(static_cast<size_t>(num_layers), 'S');
  for (int64_t i = 0; i < num_full; ++i) pattern[static_cast<size_t>(i * num_layers / num_full)] = 'F';
  return pattern;
}

PlanSearchResult search_plan(Engine& engine, std::span<const std::vector<int32_t>> windows,
                             const PlanSearchOptions& options) {
  check(engine, windows, options);
  return Search(engine, windows, options).run();
}

}  // namespace indexshare
