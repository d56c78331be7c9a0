// SPDX-License-Identifier: Apache-2.0
// Every instruction path this machine has, forced in turn. int8 scores have one definition to the bit, so on
// int8 keys every path must choose what the reference chooses, near ties and all. How many of the positions
// that exact scores would choose the coarser keys find is held to a loose bound.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "backend/cpu/cpu_backend.h"
#include "backend/selection_twin.h"
#include "indexshare/error.h"

namespace indexshare {
namespace {

class IndexSelectPaths : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    try {
      path_ = choose_kernel_path(GetParam().c_str());
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }
  std::unique_ptr<Backend> backend(int threads) const { return std::make_unique<CpuBackend>(path_, threads); }

  void expect_as_reference(const SelectionProblem& problem, const std::string& what) const {
    const auto reference = make_backend("reference", 1);
    const Selected expected = run_selection(*reference, problem);
    for (int threads : {1, 3}) {
      const Selected actual = run_selection(*backend(threads), problem);
      EXPECT_EQ(actual.counts, expected.counts) << what;
      EXPECT_TRUE(actual.positions == expected.positions) << what << ", " << threads << " threads";
    }
  }

 private:
  KernelPath path_;
};
INSTANTIATE_TEST_SUITE_P(Paths, IndexSelectPaths, testing::Values("amx", "vnni", "avx512", "avx2", "scalar"),
                         parameter_name);

std::vector<float> gaussians(Rng& rng, int64_t count) {
  std::vector<float> values(count);
  for (float& value : values)
    value = std::sqrt(-2 * std::log(rng.uniform(1e-7f, 1))) *
            std::cos(2 * std::numbers::pi_v<float> * rng.uniform(0, 1));
  return values;
}

// The last `num_rows` positions of a sequence ask; keys, queries and weights are Gaussian.
SelectionProblem gaussian_problem(int64_t length, int64_t num_rows, int64_t topk, int64_t num_heads,
                                  int64_t head_dim) {
  SelectionProblem problem = one_sequence(0, 0, topk);
  problem.num_heads = num_heads;
  problem.head_dim = head_dim;
  problem.format = RowFormat::int8;
  Rng rng(length + num_heads * 31 + head_dim);
  problem.keys = {gaussians(rng, length * head_dim)};
  for (int64_t t = length - num_rows; t < length; ++t) problem.rows.push_back({0, t});
  problem.queries = gaussians(rng, num_rows * num_heads * head_dim);
  problem.head_weights = gaussians(rng, num_rows * num_heads);
  return problem;
}

TEST_P(IndexSelectPaths, Int8AsReferenceForAnyShape) {
  for (int64_t head_dim : {1, 16, 63, 64, 72, 128, 200, 512})
    for (int64_t num_heads : {1, 2, 5, 8, 32, 40, 64}) {
      SelectionProblem problem = gaussian_problem(300, 5, 60, num_heads, head_dim);
      problem.page_size = head_dim % 3 ? 64 : 61;
      expect_as_reference(problem, "heads " + std::to_string(num_heads) + " dim " + std::to_string(head_dim));
    }
}

TEST_P(IndexSelectPaths, Int8AsReferenceOverLongContext) {
  for (int64_t topk : {1, 128, 2048}) {
    SelectionProblem problem = gaussian_problem(9000, 3, topk, 2, 64);
    expect_as_reference(problem, "topk " + std::to_string(topk));
  }
}

TEST_P(IndexSelectPaths, Int8AsReferenceForManyRows) {
  SelectionProblem problem = gaussian_problem(700, 150, 100, 3, 40);
  expect_as_reference(problem, "150 rows");
  problem.pattern = {.window = 30, .sinks = 4, .stride = 17};
  expect_as_reference(problem, "150 rows beside a pattern");
}

// Enough keys and rows that thresholds are guessed from a sample: guesses that are right, too low (all
// equal), too high (what the sample takes, every 78th group of 16, stands out), and a NaN that no sample
// sees.
TEST_P(IndexSelectPaths, Int8AsReferenceWhereThresholdsAreGuessed) {
  constexpr int64_t kLength = 40000, kDim = 16;
  const SelectionProblem plain = gaussian_problem(kLength, 10, 300, 2, kDim);
  const auto scaled = [&](const auto& factor) {
    SelectionProblem problem = plain;
    for (int64_t i = 0; i < kLength * kDim; ++i) problem.keys[0][i] *= factor(i / kDim);
    return problem;
  };
  expect_as_reference(plain, "Gaussian");
  expect_as_reference(scaled([](int64_t s) { return static_cast<float>(s); }), "rising");
  expect_as_reference(scaled([](int64_t) { return 0.0f; }), "all equal");
  for (float factor : {0.01f, 100.0f})
    expect_as_reference(scaled([&](int64_t s) { return s / 16 % 78 == 39 ? factor : 1.0f; }),
                        "a false sample");
  SelectionProblem problem = plain;
  problem.keys[0][20000 * kDim] = std::numeric_limits<float>::quiet_NaN();
  expect_as_reference(problem, "NaN");
}

// A few different keys, repeated: plateaus everywhere.
TEST_P(IndexSelectPaths, Int8AsReferenceOnTies) {
  SelectionProblem problem = gaussian_problem(1500, 4, 300, 8, 128);
  for (size_t i = 7 * 128; i < problem.keys[0].size(); ++i) problem.keys[0][i] = problem.keys[0][i - 7 * 128];
  expect_as_reference(problem, "ties");
}

TEST_P(IndexSelectPaths, Int8AsReferenceOnHostileValues) {
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const SelectionProblem good = gaussian_problem(400, 6, 50, 8, 64);
  SelectionProblem problem = good;
  std::fill_n(&problem.keys[0][10 * 64], 100 * 64, 0.0f);  // scale 0
  for (int64_t i = 0; i < 64; ++i)
    problem.keys[0][130 * 64 + i] *= 1e35f, problem.keys[0][131 * 64 + i] *= 1e-35f;
  expect_as_reference(problem, "zeros and extremes");
  std::fill_n(problem.queries.begin(), 8 * 64, 0.0f);
  for (int64_t i = 8 * 64; i < 2 * 8 * 64; ++i) problem.queries[i] *= 1e30f;  // infinite scores
  for (int64_t i = 2 * 8 * 64; i < 3 * 8 * 64; ++i) problem.queries[i] *= -1e-33f;
  expect_as_reference(problem, "extreme queries");
  for (float bad : {kNaN, kInfinity}) {
    problem = good;
    problem.keys[0][397 * 64 + 3] = bad;
    expect_as_reference(problem, "a key that is no number");
    problem = good;
    problem.queries[2 * 8 * 64 + 100] = bad;
    problem.head_weights[4 * 8 + 1] = bad;
    expect_as_reference(problem, "a query and a weight that are no numbers");
  }
}

// The share of the positions chosen by f32 keys that a format chooses too.
double recall(Backend& backend, SelectionProblem problem, RowFormat format) {
  problem.format = RowFormat::f32;
  const Selected exact = run_selection(backend, problem);
  problem.format = format;
  const Selected coarse = run_selection(backend, problem);
  std::vector<int32_t> both;
  for (size_t r = 0; r < problem.rows.size(); ++r) {
    const auto a = exact.row(r), b = coarse.row(r);
    std::set_intersection(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(both));
  }
  return static_cast<double>(both.size()) / static_cast<double>(problem.rows.size() * problem.topk);
}

// Keys near a space of 8 dimensions, with a few dimensions twenty times larger than the others.
void make_low_rank_with_outliers(SelectionProblem& problem) {
  constexpr int64_t kRank = 8, kOutliers = 3;
  const int64_t dim = problem.head_dim;
  Rng rng(5);
  const std::vector<float> basis = gaussians(rng, kRank * dim);
  for (int64_t s = 0; s < problem.length(0); ++s) {
    const std::vector<float> mix = gaussians(rng, kRank);
    float* key = &problem.keys[0][s * dim];
    for (int64_t d = 0; d < dim; ++d) {
      key[d] *= 0.1f;
      for (int64_t i = 0; i < kRank; ++i) key[d] += mix[i] * basis[i * dim + d];
      if (d < kOutliers) key[d] *= 20;
    }
  }
}

TEST_P(IndexSelectPaths, CoarseKeysFindMostOfWhatExactOnesChoose) {
  for (bool structured : {false, true}) {
    SelectionProblem problem = gaussian_problem(8192, 8, 512, 8, 128);
    if (structured) make_low_rank_with_outliers(problem);
    const double int8 = recall(*backend(1), problem, RowFormat::int8),
                 bf16 = recall(*backend(1), problem, RowFormat::bf16);
    RecordProperty(structured ? "int8_structured" : "int8_gaussian", std::to_string(int8));
    RecordProperty(structured ? "bf16_structured" : "bf16_gaussian", std::to_string(bf16));
    EXPECT_GE(int8, structured ? 0.9 : 0.96);
    EXPECT_GE(bf16, 0.98);
  }
}

}  // namespace
}  // namespace indexshare
