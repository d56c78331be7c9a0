// SPDX-License-Identifier: Apache-2.0
// Random sequences, batches and fixed patterns: the selection is the twin's, position for position.
#include <rapidcheck.h>

#include <numeric>

#include "backend/fixed_pattern.h"
#include "backend/selection_twin.h"

namespace indexshare {
namespace {

class IndexSelectProperty : public OpTest {};
INSTANTIATE_FOR_BACKENDS(IndexSelectProperty);

int64_t draw(int64_t low, int64_t high) { return *rc::gen::inRange<int64_t>(low, high + 1); }

FixedPattern draw_pattern(int64_t length) {
  FixedPattern pattern;
  if (draw(0, 1)) pattern.window = draw(0, length + 2);
  if (draw(0, 1)) pattern.sinks = draw(0, length + 2);
  if (draw(0, 1)) {
    pattern.stride = draw(1, length + 2);
    pattern.stride_phase = draw(0, 2 * pattern.stride);
    pattern.stride_cap = draw(0, 5);
  }
  pattern.mode = draw(0, 1) ? FixedPattern::Mode::union_ : FixedPattern::Mode::fill;
  return pattern;
}

// largest = 0: all scores zero; 1: few different scores; 9: many.
SelectionProblem draw_problem() {
  SelectionProblem problem;
  problem.num_heads = draw(1, 3);
  problem.head_dim = draw(1, 20);
  problem.format = *rc::gen::element(RowFormat::f32, RowFormat::bf16, RowFormat::int8);
  problem.page_size = 16 * draw(1, 3);
  int64_t longest = 1;
  for (int64_t s = draw(1, 3); s > 0; --s) {
    const int64_t length = draw(1, 120);
    longest = std::max(longest, length);
    problem.keys.emplace_back(length * problem.head_dim);
    const int64_t first = draw(0, length - 1), end = draw(first + 1, length);
    for (int64_t t = first; t < end; ++t)
      problem.rows.push_back({static_cast<int64_t>(problem.keys.size()) - 1, t});
  }
  problem.pattern = draw_pattern(longest);
  problem.topk = draw(problem.pattern.active() ? 0 : 1, longest + 2);
  Rng rng(draw(0, 1'000'000));
  fill_with_integers(problem, rng, *rc::gen::element<int64_t>(0, 1, 2, 9));
  return problem;
}

TEST_P(IndexSelectProperty, EqualsTwinForAnyPattern) {
  EXPECT_TRUE(rc::check([&] {
    const SelectionProblem problem = draw_problem();
    require_exact(problem, run_selection(*backend, problem));
  }));
}

// Long rows reach code that short ones do not: blocks, compaction, several pages a block.
TEST_P(IndexSelectProperty, EqualsTwinOnLongRows) {
  Rng rng(1);
  for (int round = 0; round < 60; ++round) {
    SelectionProblem problem = one_sequence(rng.integer(500, 9000), 2, 1);
    FixedPattern& pattern = problem.pattern;
    pattern.window = rng.integer(0, 2) * rng.integer(0, 500);
    pattern.sinks = rng.integer(0, 1) * rng.integer(0, 300);
    pattern.stride = rng.integer(0, 1) * rng.integer(1, 90);
    pattern.stride_phase = rng.integer(0, 100);
    pattern.stride_cap = rng.integer(0, 1) * rng.integer(1, 40);
    pattern.mode = rng.integer(0, 1) ? FixedPattern::Mode::union_ : FixedPattern::Mode::fill;
    problem.topk = rng.integer(pattern.active() ? 0 : 1, 1200);
    problem.format = std::vector{RowFormat::f32, RowFormat::bf16, RowFormat::int8}[rng.integer(0, 2)];
    fill_with_integers(problem, rng, rng.integer(0, 3) * 3);
    ASSERT_NO_THROW(require_exact(problem, run_selection(*backend, problem))) << "round " << round;
  }
}

}  // namespace
}  // namespace indexshare
