// SPDX-License-Identifier: Apache-2.0
#include "analysis/arm.h"

#include <algorithm>
#include <iterator>

#include "analysis/needle.h"
#include "base/check.h"

namespace indexshare {

std::vector<int64_t> RowsOfInterest::probed() const {
  std::vector<int64_t> all;
  std::ranges::set_union(sampled, needle, std::back_inserter(all));
  return all;
}

Arm::Arm(Engine& engine, Settings settings, const RowsOfInterest& rows)
    : engine_(engine),
      settings_(std::move(settings)),
      rows_(rows),
      sequence_(engine.create_sequence()),
      layers_(settings_.source.size()),
      selections_(rows.sampled.size(), std::vector<Selection>(settings_.source.size())) {}

void Arm::run(std::span<const int32_t> text, int64_t begin, int64_t end, const Progress& progress) {
  logits_.clear();
  const auto evaluate = [&](int64_t from, int64_t to, bool scored) {
    if (from >= to) return;
    EvaluateOptions options{.all_rows = scored, .pattern = settings_.pattern, .dense = settings_.dense};
    if (settings_.dense) options.pattern.clear();
    if (scored)
      options.sink = [&](int64_t, std::span<const float> row) {
        logits_.insert(logits_.end(), row.begin(), row.end());
      };
    if (!settings_.dense) {
      options.probe_positions = rows_.probed();
      options.attention_probe = [&](int layer, int64_t position, std::span<const float> probabilities,
                                    std::span<const int32_t> selection) {
        look(layer, position, probabilities, selection);
      };
    }
    options.progress = [&](int64_t done, int64_t) { progress(from - begin + done, end - begin); };
    engine_.evaluate(sequence_, text.subspan(static_cast<size_t>(from), static_cast<size_t>(to - from)),
                     options);
  };
  const int64_t scored_begin = std::clamp(rows_.first_scored, begin, end),
                scored_end = std::clamp(rows_.end_scored, scored_begin, end);
  first_kept_ = scored_begin;
  evaluate(begin, scored_begin, false);  // no head
  evaluate(scored_begin, scored_end, true);
  evaluate(scored_end, end, false);
}

std::span<const float> Arm::logits(int64_t position) const {
  const auto vocab = static_cast<size_t>(engine_.info().vocab_size);
  const size_t begin = static_cast<size_t>(position - first_kept_) * vocab;
  ENSURE(begin + vocab <= logits_.size(), "logits of position {}", position);
  return std::span(logits_).subspan(begin, vocab);
}

// Layers come in ascending order, so that a source has been seen before those that share with it.
void Arm::look(int layer, int64_t position, std::span<const float> probabilities,
               std::span<const int32_t> selection) {
  LayerMeans& means = layers_[layer];
  if (!settings_.needle.empty() && std::ranges::binary_search(rows_.needle, position))
    means.recall.add(needle_recall(settings_.needle, selection));
  const auto sampled = std::ranges::lower_bound(rows_.sampled, position);
  if (sampled == rows_.sampled.end() || *sampled != position) return;
  std::vector<Selection>& of_row = selections_[static_cast<size_t>(sampled - rows_.sampled.begin())];
  of_row[layer].assign(selection.begin(), selection.end());

  const AttentionRow row{probabilities, position + 1};
  const auto add = [&](RunningEstimate& mean, RunningEstimate& worst, std::span<const int32_t> positions) {
    const Coverage coverage = coverage_of(row, positions);
    mean.add(coverage.mean);
    worst.add(coverage.worst);
  };
  add(means.attended_mean, means.attended_worst, selection);
  add(means.shared_mean, means.shared_worst, of_row[settings_.source[layer]]);
  add(means.oracle_mean, means.oracle_worst, oracle_selection(row, std::ssize(selection)));
}

}  // namespace indexshare
