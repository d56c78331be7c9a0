// SPDX-License-Identifier: Apache-2.0
// The selection as spec and eye read it: marks, a stable sort, no cleverness; and the problems it is asked
// about.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "backend/harness.h"

namespace indexshare {

/// Fix(t) by its definition: marks[s] for s <= t.
std::vector<bool> twin_fixed(const FixedPattern& pattern, int64_t t);

/// The expected positions for scores [t + 1], nullopt where a NaN rejects the row.
std::optional<std::vector<int32_t>> twin_selection(const std::vector<double>& scores,
                                                   const FixedPattern& pattern, int64_t topk);

std::string describe(const FixedPattern& pattern);

/// Keys of several sequences and query rows anywhere in them.
struct SelectionProblem {
  struct Row {
    int64_t sequence, position;
  };
  int64_t num_heads = 1, head_dim = 8, topk = 4;
  FixedPattern pattern;
  RowFormat format = RowFormat::f32;
  int64_t page_size = 16, far_page = 0;
  std::vector<std::vector<float>> keys;  // per sequence [length, head_dim]
  std::vector<Row> rows;
  std::vector<float> queries;       // [num_rows, num_heads, head_dim]
  std::vector<float> head_weights;  // [num_rows, num_heads]

  int64_t length(int64_t sequence) const { return static_cast<int64_t>(keys[sequence].size()) / head_dim; }
  /// Scores in double of the row's visible positions.
  std::vector<double> scores(size_t row) const;
  std::optional<std::vector<int32_t>> expected(size_t row) const {
    return twin_selection(scores(row), pattern, topk);
  }
};

/// A problem of one sequence whose queries are the last `num_rows` positions.
SelectionProblem one_sequence(int64_t length, int64_t num_rows, int64_t topk);

/// Fills keys, queries and weights with small integers, so that every score is exact in any order of
/// summation.
void fill_with_integers(SelectionProblem& problem, Rng& rng, int64_t largest);

struct Selected {
  int64_t width;
  std::vector<int32_t> positions, counts;  // [num_rows, width], [num_rows]
  std::vector<int32_t> row(size_t r) const {
    return {positions.begin() + static_cast<int64_t>(r) * width,
            positions.begin() + static_cast<int64_t>(r + 1) * width};
  }
};

/// Runs the listed rows in the listed order in one call; neighbours in one sequence form one SequenceRows.
Selected run_selection(Backend& backend, const SelectionProblem& problem, const std::vector<int64_t>& rows);
Selected run_selection(Backend& backend, const SelectionProblem& problem);

/// Every row equals the twin exactly: set, ascending order, count and padding. Throws std::runtime_error
/// naming the first difference, so that both GoogleTest and RapidCheck report it.
void require_exact(const SelectionProblem& problem, const Selected& selected);

}  // namespace indexshare
