// SPDX-License-Identifier: Apache-2.0
// Score rows on which a selection can go wrong: plateaus, all equal, signed zeros, infinities, NaN, scores
// one bit apart, more equal candidates than 16 bits count, offsets and products beyond 2^31.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/selection_twin.h"

namespace indexshare {
namespace {

class IndexSelectHostile : public OpTest {
 protected:
  void expect_exact(const SelectionProblem& problem, const std::string& what) {
    EXPECT_NO_THROW(require_exact(problem, run_selection(*backend, problem))) << what;
  }
};
INSTANTIATE_FOR_BACKENDS(IndexSelectHostile);

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kDim = 8;

// A problem whose score at s is scores[s] exactly: positive values in axis 0 for a head of weight 1, negative
// ones in axis 1 for a head of weight -1. The last `num_rows` positions ask.
SelectionProblem with_scores(const std::vector<float>& scores, int64_t num_rows, int64_t topk) {
  SelectionProblem problem = one_sequence(static_cast<int64_t>(scores.size()), num_rows, topk);
  problem.num_heads = 2;
  for (size_t s = 0; s < scores.size(); ++s) {
    const bool negative = std::signbit(scores[s]);
    problem.keys[0][s * kDim + (negative ? 1 : 0)] = std::fabs(scores[s]);
  }
  for (int64_t row = 0; row < num_rows; ++row) {
    problem.queries.insert(problem.queries.end(), {1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0});
    problem.head_weights.insert(problem.head_weights.end(), {1, -1});
  }
  return problem;
}

TEST_P(IndexSelectHostile, AllZero) {
  for (int64_t topk : {1, 2, 16, 99, 100, 101})
    expect_exact(with_scores(std::vector<float>(100, 0.0f), 3, topk), fmt::format("topk {}", topk));
}

TEST_P(IndexSelectHostile, AllEqual) {
  for (float score : {1.0f, -1.0f, 0.1f, 1e-40f, -3e38f})
    for (int64_t topk : {1, 17, 64, 99})
      expect_exact(with_scores(std::vector<float>(100, score), 3, topk),
                   fmt::format("score {} topk {}", score, topk));
}

// relu leaves long runs of exact zeros among positive and negative scores; rank k falls before, inside and
// after them.
TEST_P(IndexSelectHostile, PlateauOfZerosCrossesRankK) {
  Rng rng(1);
  std::vector<float> scores(400, 0.0f);
  for (int i = 0; i < 100; ++i) scores[rng.integer(0, 399)] = rng.uniform(0.1f, 2);
  for (int i = 0; i < 100; ++i) scores[rng.integer(0, 399)] = rng.uniform(-2, -0.1f);
  for (int64_t topk = 1; topk < 400; topk += 7)
    expect_exact(with_scores(scores, 2, topk), fmt::format("topk {}", topk));
}

// Heads of weight -0 and relu's zeros give both signs of zero.
TEST_P(IndexSelectHostile, ZerosOfBothSignsAreEqual) {
  std::vector<float> scores(100);
  for (size_t s = 0; s < 100; ++s) scores[s] = s % 3 ? 0.0f : -0.0f;
  scores[50] = 1;
  scores[51] = -1;
  for (float weight : {1.0f, -1.0f, 0.0f, -0.0f})
    for (int64_t topk : {1, 2, 20, 98, 99}) {
      SelectionProblem problem = with_scores(scores, 1, topk);
      problem.head_weights = {weight, -weight};
      for (size_t s = 0; s < 100; s += 2) problem.keys[0][s * kDim + 2] = -0.0f;
      expect_exact(problem, fmt::format("weight {} topk {}", weight, topk));
    }
}

TEST_P(IndexSelectHostile, OneHeadOfNegativeWeightMakesMinusZeros) {
  Rng rng(2);
  SelectionProblem problem = one_sequence(200, 5, 60);
  problem.keys[0] = rng.integers(200 * kDim, -2, 0);
  problem.queries =
      rng.integers(5 * kDim, 0, 2);  // every dot <= 0: relu gives zeros, the weight makes them -0
  problem.head_weights = {-1, 1, -2, -0.0f, 0.0f};
  expect_exact(problem, "minus zeros");
}

TEST_P(IndexSelectHostile, ScoresOneBitApart) {
  Rng rng(3);
  for (float start : {1.0f, 1e-3f, 1e30f, -1.0f, -1e10f}) {
    const std::vector<int32_t> order = rng.permutation(300);
    std::vector<float> scores(300);
    float score = start;
    for (int32_t s : order) scores[s] = score = std::nextafter(score, kInfinity);
    for (int64_t topk : {1, 2, 50, 150, 298})
      expect_exact(with_scores(scores, 2, topk), fmt::format("{} topk {}", start, topk));
  }
}

// Steps of one bit between plateaus: an approximate threshold takes the wrong plateau.
TEST_P(IndexSelectHostile, PlateausOneBitApart) {
  const float high = std::nextafter(1.0f, 2.0f), low = std::nextafter(1.0f, 0.0f);
  Rng rng(4);
  std::vector<float> scores(600);
  for (float& score : scores) score = std::vector{low, 1.0f, high}[rng.integer(0, 2)];
  for (int64_t topk = 1; topk < 600; topk += 13)
    expect_exact(with_scores(scores, 1, topk), fmt::format("topk {}", topk));
}

TEST_P(IndexSelectHostile, Denormals) {
  Rng rng(5);
  std::vector<float> scores(200);
  for (float& score : scores)
    score = static_cast<float>(rng.integer(-3, 3)) * std::numeric_limits<float>::denorm_min();
  for (int64_t topk : {1, 10, 50, 100, 150, 199})
    expect_exact(with_scores(scores, 1, topk), fmt::format("topk {}", topk));
}

TEST_P(IndexSelectHostile, EveryMagnitude) {
  Rng rng(6);
  std::vector<float> scores(500);
  for (float& score : scores)
    score = std::ldexp(rng.uniform(-1, 1), static_cast<int>(rng.integer(-140, 126)));
  for (int64_t topk : {1, 5, 100, 250, 400, 499})
    expect_exact(with_scores(scores, 2, topk), fmt::format("topk {}", topk));
}

// Products overflow to infinities of both signs, never inf - inf.
TEST_P(IndexSelectHostile, InfiniteScoresAreOrderedLikeOthers) {
  Rng rng(7);
  std::vector<float> scores(200);
  for (float& score : scores)
    score = std::vector{0.0f, 0x1p100f, -0x1p100f, 0x1p-20f, -0x1p-20f}[rng.integer(0, 4)];
  for (int64_t topk : {1, 30, 80, 120, 160, 199}) {
    SelectionProblem problem = with_scores(scores, 2, topk);
    for (float& query : problem.queries) query *= 0x1p100f;
    const Selected selected = run_selection(*backend, problem);
    for (float& query : problem.queries)
      query *= 0x1p-100f;  // the twin in double would not overflow: same order
    EXPECT_NO_THROW(require_exact(problem, selected)) << "topk " << topk;
  }
}

TEST_P(IndexSelectHostile, MinusInfinityEverywhere) {
  SelectionProblem problem = with_scores(std::vector<float>(100, 1.0f), 4, 30);
  for (size_t i = 0; i < problem.head_weights.size(); i += 2) problem.head_weights[i] = -kInfinity;
  for (size_t i = 1; i < problem.head_weights.size(); i += 2) problem.head_weights[i] = 0;
  expect_exact(problem, "-inf everywhere");
}

TEST_P(IndexSelectHostile, NaNKeyRejectsTheRowsThatSeeIt) {
  for (int64_t bad : {0, 40, 97, 98, 99})
    for (FixedPattern::Mode mode : {FixedPattern::Mode::fill, FixedPattern::Mode::union_}) {
      SelectionProblem problem = with_scores(std::vector<float>(100, 1.0f), 4, 20);
      problem.pattern.window = 3;
      problem.pattern.mode = mode;
      problem.keys[0][bad * kDim + 3] = kNaN;
      expect_exact(problem, fmt::format("NaN at {}", bad));
    }
}

TEST_P(IndexSelectHostile, NaNQueryOrWeightRejectsItsRowAlone) {
  SelectionProblem problem = with_scores(std::vector<float>(100, 1.0f), 5, 20);
  problem.queries[1 * 2 * kDim + 5] = kNaN;
  problem.head_weights[3 * 2] = kNaN;
  const Selected selected = run_selection(*backend, problem);
  EXPECT_EQ(selected.counts, (std::vector<int32_t>{20, -1, 20, -1, 20}));
  EXPECT_EQ(selected.row(1), std::vector<int32_t>(20, -1));
  expect_exact(problem, "NaN query and weight");
}

// inf * 0 and inf - inf are NaN too.
TEST_P(IndexSelectHostile, InvalidInfinitiesReject) {
  SelectionProblem problem = with_scores(std::vector<float>(100, 0.0f), 1, 20);
  problem.head_weights[0] = kInfinity;
  EXPECT_EQ(run_selection(*backend, problem).counts, std::vector<int32_t>{-1});
}

TEST_P(IndexSelectHostile, RowsThatNeedNoChoiceAreNotScored) {
  SelectionProblem problem = with_scores(std::vector<float>(20, kNaN), 20, 20);
  expect_exact(problem, "topk covers everything");
  problem = with_scores(std::vector<float>(20, kNaN), 20, 0);
  problem.pattern.window = 4;
  problem.queries.clear();  // nullptr: must not be read
  problem.head_weights.clear();
  expect_exact(problem, "no top-k");
}

TEST_P(IndexSelectHostile, MoreEqualCandidatesThan16BitsCount) {
  std::vector<float> scores(70001, 0.25f);
  for (int64_t topk : {1, 2048, 65535, 65536, 65537, 70000})
    expect_exact(with_scores(scores, 1, topk), fmt::format("all equal, topk {}", topk));
  scores[69000] = 1;
  scores[3] = 0;
  for (int64_t topk : {1, 2048, 69999, 70000})
    expect_exact(with_scores(scores, 1, topk), fmt::format("topk {}", topk));
}

TEST_P(IndexSelectHostile, KeysBeyondTwoToThe31Elements) {
  for (RowFormat format : {RowFormat::f32, RowFormat::bf16, RowFormat::int8}) {
    SelectionProblem problem = one_sequence(0, 0, 20);
    problem.head_dim = 128;
    problem.num_heads = 4;
    problem.page_size = 64;
    problem.far_page = TestCache::kFarPage;
    problem.format = format;
    problem.keys = {std::vector<float>(200 * 128), std::vector<float>(200 * 128)};
    problem.rows = {{0, 198}, {0, 199}, {1, 199}};
    Rng rng(8);
    fill_with_integers(problem, rng, 3);
    expect_exact(problem, "far pages");
  }
}

// rows * context * heads * dim = 64 * 66000 * 8 * 64 > 2^31. A key is a multiple of ones, so scores are
// known.
TEST_P(IndexSelectHostile, MoreThanTwoToThe31Products) {
  const int64_t length = 66000, num_rows = 64, num_heads = 8, dim = 64;
  Rng rng(9);
  Rng cache_rng(10);
  TestCache cache(*backend, {RowFormat::f32, 64, dim}, {length}, cache_rng);
  std::vector<float> keys(length * dim), values = rng.integers(length, -50, 50);
  for (int64_t i = 0; i < length * dim; ++i) keys[i] = values[i / dim];
  cache.write(TestCache::Kind::index_keys, 0, 0, keys);
  const std::vector<float> queries(num_rows * num_heads * dim, 0.5f), weights(num_rows * num_heads, 1.0f);
  const int64_t topk = 2048;
  std::vector<int32_t> positions(num_rows * topk), counts(num_rows);
  const SequenceRows sequences[] = {cache.rows(0, 0, num_rows, length - num_rows)};
  backend->index_select({queries.data(),
                         weights.data(),
                         cache.pages,
                         sequences,
                         num_rows,
                         num_heads,
                         dim,
                         topk,
                         {},
                         topk,
                         positions.data(),
                         counts.data()});
  for (int64_t row : {int64_t{0}, num_rows / 2, num_rows - 1}) {
    std::vector<double> scores(values.begin(), values.begin() + length - num_rows + row + 1);
    for (double& score : scores) score = std::max(score, 0.0);
    const std::vector<int32_t> actual(&positions[row * topk], &positions[row * topk] + topk);
    ASSERT_EQ(actual, *twin_selection(scores, {}, topk)) << "row " << row;
  }
}

}  // namespace
}  // namespace indexshare
