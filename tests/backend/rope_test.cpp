// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "backend/harness.h"
#include "tolerances.h"

namespace indexshare {
namespace {

class Rope : public OpTest {};
INSTANTIATE_FOR_BACKENDS(Rope);

std::vector<float> frequencies(int64_t rope_dim) {
  std::vector<float> inv_freq(rope_dim / 2);
  for (int64_t j = 0; j < rope_dim / 2; ++j)
    inv_freq[j] =
        static_cast<float>(std::pow(8e6, -2.0 * static_cast<double>(j) / static_cast<double>(rope_dim)));
  return inv_freq;
}

struct Problem {
  int64_t num_heads, rope_dim, head_stride, row_stride;
  RopePairs pairs;
  std::vector<int64_t> positions;
  float amplitude = 1;
};

std::vector<float> rotate(Backend& backend, const Problem& p, std::vector<float> x) {
  const std::vector<float> inv_freq = frequencies(p.rope_dim);
  backend.rope({x.data(), p.row_stride, p.head_stride, p.positions.data(), inv_freq.data(),
                static_cast<int64_t>(p.positions.size()), p.num_heads, p.rope_dim, p.pairs, p.amplitude});
  return x;
}

void check_against_twin(const Problem& p, const std::vector<float>& before, const std::vector<float>& after) {
  const std::vector<float> inv_freq = frequencies(p.rope_dim);
  std::vector<bool> rotated(before.size(), false);
  for (size_t row = 0; row < p.positions.size(); ++row)
    for (int64_t head = 0; head < p.num_heads; ++head)
      for (int64_t j = 0; j < p.rope_dim / 2; ++j) {
        const bool interleaved = p.pairs == RopePairs::interleaved;
        const int64_t start = static_cast<int64_t>(row) * p.row_stride + head * p.head_stride;
        const int64_t a = start + (interleaved ? 2 * j : j),
                      b = start + (interleaved ? 2 * j + 1 : j + p.rope_dim / 2);
        const float angle =
            static_cast<float>(p.positions[row]) * inv_freq[j];  // rounded to f32, as promised
        const double c = std::cos(double{angle}) * p.amplitude, s = std::sin(double{angle}) * p.amplitude;
        const double size = std::max(std::fabs(before[a]), std::fabs(before[b]));
        ASSERT_NEAR(after[a], before[a] * c - before[b] * s, tolerance::kRope * size)
            << "row " << row << " pair " << j;
        ASSERT_NEAR(after[b], before[b] * c + before[a] * s, tolerance::kRope * size)
            << "row " << row << " pair " << j;
        rotated[a] = rotated[b] = true;
      }
  for (size_t i = 0; i < before.size(); ++i)
    if (!rotated[i]) {
      ASSERT_EQ(after[i], before[i]) << "element " << i << " is not to be rotated";
    }
}

TEST_P(Rope, EqualsTwin) {
  const std::vector<int64_t> positions{0, 1, 2, 3, 1000, 4095, 65537, 131071, 999999, 1048575, 16777216};
  for (RopePairs pairs : {RopePairs::interleaved, RopePairs::half_split})
    for (int64_t rope_dim : {2, 6, 8, 34, 64})
      for (int64_t num_heads : {1, 3}) {
        SCOPED_TRACE(testing::Message() << "rope_dim " << rope_dim << " heads " << num_heads);
        const float amplitude = num_heads == 1 ? 1.0f : 1.3f;
        const Problem p{num_heads, rope_dim,  rope_dim + 5, num_heads * (rope_dim + 5) + 3,
                        pairs,     positions, amplitude};
        Rng rng(rope_dim);
        const std::vector<float> x = rng.uniforms(static_cast<int64_t>(positions.size()) * p.row_stride);
        check_against_twin(p, x, rotate(*backend, p, x));
      }
}

TEST_P(Rope, PositionZeroChangesNothing) {
  Rng rng(1);
  const std::vector<float> x = rng.uniforms(64);
  EXPECT_EQ(rotate(*backend, {1, 64, 64, 64, RopePairs::interleaved, {0}}, x), x);
}

TEST_P(Rope, NoRowsNoHeads) {
  EXPECT_TRUE(rotate(*backend, {3, 8, 8, 24, RopePairs::interleaved, {}}, {}).empty());
  const std::vector<float> x(8, 1.0f);
  EXPECT_EQ(rotate(*backend, {0, 8, 8, 8, RopePairs::half_split, {5}}, x), x);
}

TEST_P(Rope, BatchInvariant) {
  Rng rng(2);
  const int64_t num_rows = 11, dim = 2 * 64;
  const std::vector<float> x = rng.uniforms(num_rows * dim);
  for (RopePairs pairs : {RopePairs::interleaved, RopePairs::half_split})
    expect_batch_invariant(GetParam(), num_rows, [&](Backend& each, const std::vector<int64_t>& order) {
      std::vector<float> input;
      std::vector<int64_t> positions;
      for (int64_t row : order) {
        input.insert(input.end(), &x[row * dim], &x[row * dim] + dim);
        positions.push_back(row * 12347);
      }
      const std::vector<float> output = rotate(each, {2, 64, 64, dim, pairs, positions}, input);
      std::vector<std::vector<uint32_t>> results;
      for (size_t i = 0; i < order.size(); ++i) results.push_back(bits_of(&output[i * dim], dim));
      return results;
    });
}

}  // namespace
}  // namespace indexshare
