// SPDX-License-Identifier: Apache-2.0
// Arm: one way to run a text through a model (dense, an indexer in every layer, a shared plan), chunk by
// chunk beside the other ways, and what was seen on it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "analysis/coverage.h"
#include "indexshare/analysis.h"
#include "indexshare/estimate.h"

namespace indexshare {

/// Which rows of a text are looked at, and how.
struct RowsOfInterest {
  std::vector<int64_t> sampled;              // for overlap and coverage, ascending
  std::vector<int64_t> needle;               // for the needle's recall, ascending
  int64_t first_scored = 0, end_scored = 0;  // rows whose logits are compared

  std::vector<int64_t> probed() const;  // sampled and needle rows, ascending, each once
};

class Arm {
 public:
  struct Settings {
    std::string name;
    std::string pattern;  // it runs under
    bool dense = false;
    std::vector<int> source;  // [layers] of the shared plan
    std::vector<int64_t> needle;
  };

  Arm(Engine& engine, Settings settings, const RowsOfInterest& rows);

  /// Runs tokens [begin, end) of the text; afterwards logits() has their scored rows.
  void run(std::span<const int32_t> text, int64_t begin, int64_t end, const Progress& progress);
  void release() { engine_.release(sequence_); }

  const std::string& name() const { return settings_.name; }
  /// [vocab], of a scored row of the last chunk.
  std::span<const float> logits(int64_t position) const;

  struct LayerMeans {
    RunningEstimate attended_mean, attended_worst, shared_mean, shared_worst, oracle_mean, oracle_worst;
    RunningEstimate recall;

    static Coverage coverage(const RunningEstimate& mean, const RunningEstimate& worst) {
      return {mean.mean(), worst.mean()};
    }
    Coverage attended() const { return coverage(attended_mean, attended_worst); }
    Coverage shared() const { return coverage(shared_mean, shared_worst); }
    Coverage oracle() const { return coverage(oracle_mean, oracle_worst); }
  };
  const std::vector<LayerMeans>& layers() const { return layers_; }
  /// [sampled rows][layers]: the selection that each layer attended with.
  const std::vector<std::vector<Selection>>& selections() const { return selections_; }

 private:
  void look(int layer, int64_t position, std::span<const float> probabilities,
            std::span<const int32_t> selection);

  Engine& engine_;
  Settings settings_;
  const RowsOfInterest& rows_;
  SequenceId sequence_;
  int64_t first_kept_ = 0;  // position of the first row of logits_
  std::vector<float> logits_;
  std::vector<LayerMeans> layers_;
  std::vector<std::vector<Selection>> selections_;
};

}  // namespace indexshare
