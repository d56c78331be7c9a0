// SPDX-License-Identifier: Apache-2.0
// SharePlan: which layer's selection each layer attends with (IndexShare, GLM-5.2). A full layer owns an
// indexer, a shared layer reuses the selection of the nearest full layer before it. Every encoding in the
// wild becomes this one table; it decides which indexer weights are read, which layers keep index keys and
// which run the indexer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace indexshare {

struct SharePlan {
  std::vector<int> source;  // [num_layers] the layer whose selection is used; source[l] == l: l is full
  std::vector<int> slot;    // [num_layers] ordinal of a full layer among the full ones, -1 for a shared layer

  int num_layers() const { return static_cast<int>(source.size()); }
  int num_full() const;
  bool is_full(int layer) const { return source[layer] == layer; }
  std::vector<int> full_layers() const;
  std::string pattern() const;  // "FFFSSSFSSS"

  static SharePlan every_layer(int num_layers);
  /// From a string of F and S. Errors name `field`: wrong length, other letters, a leading S.
  static SharePlan from_pattern(const std::string& pattern, int num_layers, const std::string& field);
  /// full(i) <=> max(i - offset + 1, 0) mod freq == 0 (transformers; GLM-5.2 has freq 4, offset 3).
  static SharePlan from_frequency(int64_t freq, int64_t offset, int num_layers);
};

/// The encodings a config.json may carry, in order of precedence (docs/index_sharing.md).
struct SharePlanFields {
  std::optional<std::vector<std::string>> indexer_types;  // "full" / "shared" a layer
  std::optional<std::string> index_topk_pattern;          // "FFFS..." (a list of letters is joined first)
  std::optional<int64_t> index_topk_freq, index_skip_topk_offset;
};

/// @throws Error{unsupported} naming the field where an encoding is malformed or two of them disagree.
SharePlan choose_share_plan(const SharePlanFields& fields, int num_layers);

}  // namespace indexshare
