// SPDX-License-Identifier: Apache-2.0
// Shapes, formats and batches. Values are small integers, so the expected positions are exact. Ties,
// infinities and NaN: index_select_hostile_test.cpp; fixed patterns: index_select_property_test.cpp.
#include <algorithm>
#include <cmath>

#include "backend/selection_twin.h"
#include "tolerances.h"

namespace indexshare {
namespace {

class IndexSelect : public OpTest {};
INSTANTIATE_FOR_BACKENDS(IndexSelect);

TEST_P(IndexSelect, EveryRowOfASequenceForEveryTopk) {
  for (int64_t length : {1, 2, 15, 16, 17, 33, 80})
    for (int64_t topk :
         {int64_t{1}, int64_t{2}, int64_t{7}, int64_t{16}, length - 1, length, length + 1, 3 * length}) {
      if (topk < 1) continue;
      SelectionProblem problem = one_sequence(length, length, topk);
      problem.num_heads = 3;
      Rng rng(length * 100 + topk);
      fill_with_integers(problem, rng, 3);
      ASSERT_NO_THROW(require_exact(problem, run_selection(*backend, problem)))
          << "length " << length << " topk " << topk;
    }
}

TEST_P(IndexSelect, EveryShapeFormatAndPageSize) {
  for (RowFormat format : {RowFormat::f32, RowFormat::bf16, RowFormat::int8})
    for (int64_t head_dim : {1, 2, 13, 40, 72, 128, 512})
      for (int64_t num_heads : {1, 2, 5, 32})
        for (int64_t page_size : supported_page_sizes(*backend, format, head_dim, {1, 16, 48, 61, 64})) {
          SelectionProblem problem = one_sequence(0, 0, 9);
          problem.num_heads = num_heads;
          problem.head_dim = head_dim;
          problem.format = format;
          problem.page_size = page_size;
          problem.keys = {std::vector<float>(130 * head_dim), std::vector<float>(70 * head_dim)};
          problem.rows = {{0, 127}, {0, 128}, {0, 129}, {1, 64}, {1, 5}};
          Rng rng(head_dim * num_heads);
          fill_with_integers(problem, rng, 3);
          ASSERT_NO_THROW(require_exact(problem, run_selection(*backend, problem)))
              << row_format_name(format) << " dim " << head_dim << " heads " << num_heads << " page "
              << page_size;
        }
}

TEST_P(IndexSelect, LongSequences) {
  for (int64_t length : {1000, 4097, 20001})
    for (int64_t topk : {1, 64, 500, 2048}) {
      SelectionProblem problem = one_sequence(length, 3, topk);
      problem.num_heads = 2;
      Rng rng(length);
      fill_with_integers(problem, rng, 40);
      ASSERT_NO_THROW(require_exact(problem, run_selection(*backend, problem)))
          << "length " << length << " topk " << topk;
    }
}

TEST_P(IndexSelect, NoRows) {
  SelectionProblem problem = one_sequence(20, 0, 4);
  EXPECT_TRUE(run_selection(*backend, problem).counts.empty());
}

// Rows of several sequences at different depths, some short enough to need no scores.
SelectionProblem mixed_batch() {
  SelectionProblem problem = one_sequence(0, 0, 24);
  problem.num_heads = 4;
  problem.head_dim = 40;
  problem.keys = {std::vector<float>(300 * 40), std::vector<float>(20 * 40), std::vector<float>(90 * 40)};
  for (int64_t t = 250; t < 270; ++t) problem.rows.push_back({0, t});
  for (int64_t t = 0; t < 20; ++t) problem.rows.push_back({1, t});
  problem.rows.push_back({2, 89});
  problem.rows.push_back({2, 24});
  problem.rows.push_back({2, 23});
  return problem;
}

TEST_P(IndexSelect, SequencesOfABatchDoNotMix) {
  SelectionProblem problem = mixed_batch();
  Rng rng(1);
  fill_with_integers(problem, rng, 4);
  ASSERT_NO_THROW(require_exact(problem, run_selection(*backend, problem)));
}

// Random floats: two scores nearer than rounding may swap, nothing else may.
TEST_P(IndexSelect, RandomFloatsUpToNearTies) {
  for (RowFormat format : {RowFormat::f32, RowFormat::bf16}) {
    SelectionProblem problem = one_sequence(0, 0, 100);
    problem.num_heads = 8;
    problem.head_dim = 128;
    problem.format = format;
    Rng rng(2);
    problem.keys = {rng.uniforms(1500 * 128, -3, 3)};
    for (int64_t t = 1488; t < 1500; ++t) problem.rows.push_back({0, t});
    problem.queries = rng.uniforms(12 * 8 * 128, -3, 3);
    for (float& query : problem.queries) query = rounded_to(format, query);  // tiles take bf16 by bf16
    problem.head_weights = rng.uniforms(12 * 8, -0.5f, 1);
    const Selected selected = run_selection(*backend, problem);
    for (size_t row = 0; row < 12; ++row) {
      const std::vector<double> scores = problem.scores(row);
      std::vector<double> sorted = scores;
      std::sort(sorted.rbegin(), sorted.rend());
      const double allowance =
          tolerance::kScore * std::max(std::fabs(sorted.front()), std::fabs(sorted.back()));
      std::vector<bool> chosen(scores.size(), false);
      ASSERT_EQ(selected.counts[row], 100);
      for (int32_t s : selected.row(row)) chosen[s] = true;
      ASSERT_EQ(std::count(chosen.begin(), chosen.end(), true), 100);
      for (size_t s = 0; s < scores.size(); ++s) {
        const double excess = chosen[s] ? sorted[99] - scores[s] : scores[s] - sorted[99];
        ASSERT_LE(excess, allowance) << "row " << row << " position " << s << " chosen " << chosen[s];
      }
    }
  }
}

TEST_P(IndexSelect, BatchInvariant) {
  for (RowFormat format : {RowFormat::f32, RowFormat::bf16, RowFormat::int8}) {
    SelectionProblem problem = mixed_batch();
    problem.format = format;
    Rng rng(3);
    const auto num_rows = static_cast<int64_t>(problem.rows.size());
    for (auto& keys :
         problem.keys)  // 8 different keys only, the rest repeats them: ties everywhere, in random floats
      for (size_t i = 0; i < keys.size(); ++i) keys[i] = i < 8 * 40 ? rng.uniform(-1, 1) : keys[i - 8 * 40];
    problem.queries = rng.uniforms(num_rows * 4 * 40);
    problem.head_weights = rng.uniforms(num_rows * 4);
    expect_batch_invariant(GetParam(), num_rows, [&](Backend& each, const std::vector<int64_t>& order) {
      const Selected selected = run_selection(each, problem, order);
      std::vector<std::vector<uint32_t>> results;
      for (size_t i = 0; i < order.size(); ++i) {
        results.push_back(bits_of(selected.row(i).data(), selected.width));
        results.back().push_back(static_cast<uint32_t>(selected.counts[i]));
      }
      return results;
    });
  }
}

// Equal keys have equal scores to the last bit wherever they lie, so the earlier ones win.
TEST_P(IndexSelect, EqualKeysTieWhereverTheyLie) {
  for (RowFormat format : {RowFormat::f32, RowFormat::bf16, RowFormat::int8})
    for (int64_t head_dim : {13, 40, 128}) {
      Rng rng(head_dim);
      SelectionProblem problem = one_sequence(0, 0, 37);
      problem.num_heads = 5;
      problem.head_dim = head_dim;
      problem.format = format;
      const std::vector<float> key = rng.uniforms(head_dim);
      problem.keys.emplace_back();
      for (int i = 0; i < 333; ++i) problem.keys[0].insert(problem.keys[0].end(), key.begin(), key.end());
      for (int64_t t = 320; t < 333; ++t) problem.rows.push_back({0, t});
      problem.queries = rng.uniforms(13 * 5 * head_dim);
      problem.head_weights = rng.uniforms(13 * 5, 0, 1);
      const Selected selected = run_selection(*backend, problem);
      for (size_t row = 0; row < 13; ++row)
        for (int32_t i = 0; i < 37; ++i)
          ASSERT_EQ(selected.row(row)[i], i) << "row " << row << " dim " << head_dim;
    }
}

}  // namespace
}  // namespace indexshare
