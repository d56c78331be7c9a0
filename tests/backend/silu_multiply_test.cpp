// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <limits>

#include "backend/harness.h"
#include "tolerances.h"

namespace indexshare {
namespace {

class SiluMultiply : public OpTest {};
INSTANTIATE_FOR_BACKENDS(SiluMultiply);

void expect_twin(float gate, float up, float actual) {
  const double expected = gate / (1.0 + std::exp(-double{gate})) * up;
  ASSERT_NEAR(actual, expected, tolerance::kSilu * std::fabs(expected) + tolerance::kSiluFloor)
      << "gate " << gate << " up " << up;
}

TEST_P(SiluMultiply, EqualsTwin) {
  for (int64_t dim : {1, 13, 40, 72, 576}) {
    Rng rng(dim);
    const int64_t num_rows = 5;
    const std::vector<float> gate = rng.uniforms(num_rows * dim, -20, 20),
                             up = rng.uniforms(num_rows * dim, -3, 3);
    std::vector<float> y(num_rows * dim), in_gate = gate, in_up = up;
    backend->silu_multiply({gate.data(), up.data(), y.data(), num_rows, dim});
    backend->silu_multiply({in_gate.data(), up.data(), in_gate.data(), num_rows, dim});
    backend->silu_multiply({gate.data(), in_up.data(), in_up.data(), num_rows, dim});
    for (int64_t i = 0; i < num_rows * dim; ++i) expect_twin(gate[i], up[i], y[i]);
    EXPECT_EQ(bits_of(in_gate.data(), num_rows * dim), bits_of(y.data(), num_rows * dim));
    EXPECT_EQ(bits_of(in_up.data(), num_rows * dim), bits_of(y.data(), num_rows * dim));
  }
}

TEST_P(SiluMultiply, Extremes) {
  const std::vector<float> gate{0,  -0.0f, 1e-40f, -1e-40f, 1e-10f, 30,   -30,  80,    -80,   87,    -87,
                                88, -88,   89,     -89,     104,    -104, 1e4f, -1e4f, 1e30f, -1e30f};
  const std::vector<float> up(gate.size(), 0.75f);
  std::vector<float> y(gate.size());
  backend->silu_multiply({gate.data(), up.data(), y.data(), 1, static_cast<int64_t>(gate.size())});
  for (size_t i = 0; i < gate.size(); ++i) expect_twin(gate[i], up[i], y[i]);
}

TEST_P(SiluMultiply, NaNStaysWhereItIs) {
  std::vector<float> gate(40, 1.0f), up(40, 1.0f), y(40);
  gate[7] = up[20] = std::numeric_limits<float>::quiet_NaN();
  backend->silu_multiply({gate.data(), up.data(), y.data(), 1, 40});
  for (int i = 0; i < 40; ++i) EXPECT_EQ(std::isnan(y[i]), i == 7 || i == 20) << i;
}

TEST_P(SiluMultiply, NoRows) { backend->silu_multiply({nullptr, nullptr, nullptr, 0, 8}); }

TEST_P(SiluMultiply, BatchInvariant) {
  Rng rng(3);
  const int64_t num_rows = 9, dim = 37;
  const std::vector<float> gate = rng.uniforms(num_rows * dim, -9, 9), up = rng.uniforms(num_rows * dim);
  expect_batch_invariant(GetParam(), num_rows, [&](Backend& each, const std::vector<int64_t>& order) {
    std::vector<float> gates, ups;
    for (int64_t row : order) {
      gates.insert(gates.end(), &gate[row * dim], &gate[row * dim] + dim);
      ups.insert(ups.end(), &up[row * dim], &up[row * dim] + dim);
    }
    each.silu_multiply({gates.data(), ups.data(), gates.data(), static_cast<int64_t>(order.size()), dim});
    std::vector<std::vector<uint32_t>> results;
    for (size_t i = 0; i < order.size(); ++i) results.push_back(bits_of(&gates[i * dim], dim));
    return results;
  });
}

}  // namespace
}  // namespace indexshare
