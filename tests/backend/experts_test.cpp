// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "backend/harness.h"
#include "tolerances.h"

namespace indexshare {
namespace {

class Experts : public OpTest {};
INSTANTIATE_FOR_BACKENDS(Experts);

constexpr WeightKind kKinds[] = {
    {DType::f32},
    {DType::f16},
    {DType::bf16},
    {DType::f8_e4m3},
    {DType::bf16, WeightFormat::as_stored, 16},
    {DType::f8_e4m3, WeightFormat::as_stored, 16},
    {DType::bf16, WeightFormat::int8, 16},
    {DType::bf16, WeightFormat::int4, 16},
    {DType::bf16, WeightFormat::as_stored, 8},
    {DType::f8_e4m3, WeightFormat::as_stored, 8},
    {DType::bf16, WeightFormat::int8, 8},
    {DType::bf16, WeightFormat::int4, 8},
};

double tolerance_of(const WeightKind& kind) {
  return kind.activation_bits == 32   ? tolerance::kExperts
         : kind.activation_bits == 16 ? tolerance::kExperts16
                                      : tolerance::kExperts8;
}

struct Weights {
  Weights(const WeightKind& kind, int64_t num_experts, int64_t hidden, int64_t expert_dim, uint64_t seed) {
    Rng rng(seed);
    for (int64_t e = 0; e < num_experts; ++e) {
      gate.emplace_back(kind, expert_dim, hidden, rng);
      up.emplace_back(kind, expert_dim, hidden, rng);
      down.emplace_back(kind, hidden, expert_dim, rng);
    }
  }
  std::vector<HostMatrix> gate, up, down;
};

class LoadedTable {
 public:
  LoadedTable(Backend& backend, const Weights& weights) {
    for (size_t e = 0; e < weights.gate.size(); ++e) {
      const auto load = [&](const HostMatrix& m) { return matrices_.emplace_back(m.load(backend)).get(); };
      const Matrix* gate = load(weights.gate[e]);
      const Matrix* up = load(weights.up[e]);
      table.push_back({gate, up, load(weights.down[e])});
    }
  }
  std::vector<Expert> table;

 private:
  std::vector<std::unique_ptr<Matrix>> matrices_;
};

std::vector<double> times(const HostMatrix& weight, const std::vector<double>& x) {
  std::vector<double> y(weight.out_dim());
  for (int64_t out = 0; out < weight.out_dim(); ++out)
    for (int64_t in = 0; in < weight.in_dim(); ++in) y[out] += weight.at(out, in) * x[in];
  return y;
}

std::vector<double> twin(const Weights& weights, const std::vector<double>& x, const int32_t* experts,
                         const float* expert_weights, int64_t experts_per_token) {
  std::vector<double> y(x.size());
  for (int64_t n = 0; n < experts_per_token; ++n) {
    std::vector<double> inner = times(weights.gate[experts[n]], x);
    const std::vector<double> up = times(weights.up[experts[n]], x);
    for (size_t i = 0; i < inner.size(); ++i) inner[i] = inner[i] / (1 + std::exp(-inner[i])) * up[i];
    const std::vector<double> out = times(weights.down[experts[n]], inner);
    for (size_t i = 0; i < y.size(); ++i) y[i] += expert_weights[n] * out[i];
  }
  return y;
}

struct Problem {
  int64_t num_rows, experts_per_token, hidden, expert_dim;
  std::vector<float> x, weights;
  std::vector<int32_t> experts;
};

Problem make_problem(int64_t num_rows, int64_t num_experts, int64_t k, int64_t hidden, int64_t expert_dim) {
  Rng rng(num_rows * 100 + hidden);
  Problem p{
      num_rows, k, hidden, expert_dim, rng.uniforms(num_rows * hidden), rng.uniforms(num_rows * k, 0, 1), {}};
  for (int64_t row = 0; row < num_rows; ++row) {
    const std::vector<int32_t> order = rng.permutation(num_experts);
    p.experts.insert(p.experts.end(), order.begin(), order.begin() + k);
  }
  return p;
}

std::vector<float> run(Backend& backend, const Problem& p, std::span<const Expert> table) {
  std::vector<float> y(p.num_rows * p.hidden, 77.0f);
  backend.experts({p.x.data(), p.experts.data(), p.weights.data(), table, p.num_rows, p.experts_per_token,
                   p.hidden, p.expert_dim, y.data()});
  return y;
}

TEST_P(Experts, EqualsTwin) {
  const int64_t dims[][2] = {{13, 40}, {72, 24}, {130, 200}};
  for (const WeightKind& kind : kKinds)
    for (const auto& [hidden, expert_dim] : dims) {
      const Weights weights(kind, 5, hidden, expert_dim, hidden);
      const LoadedTable loaded(*backend, weights);
      for (int64_t num_rows : {0, 1, 2, 9, 40})
        for (int64_t k : {1, 3, 5}) {
          const Problem p = make_problem(num_rows, 5, k, hidden, expert_dim);
          const std::vector<float> y = run(*backend, p, loaded.table);
          for (int64_t row = 0; row < num_rows; ++row) {
            const std::vector<double> x(&p.x[row * hidden], &p.x[row * hidden] + hidden);
            ASSERT_LE(
                row_error(&y[row * hidden], twin(weights, x, &p.experts[row * k], &p.weights[row * k], k)),
                tolerance_of(kind))
                << kind << " " << hidden << " row " << row << " of " << num_rows << ", k " << k;
          }
        }
    }
}

TEST_P(Experts, AllRowsOnOneExpertAndWeightsOfZero) {
  const Weights weights(WeightKind{DType::bf16}, 4, 40, 24, 1);
  const LoadedTable loaded(*backend, weights);
  Problem p = make_problem(21, 4, 2, 40, 24);
  for (int row = 0; row < 21; ++row) {
    p.experts[row * 2] = 2;
    p.experts[row * 2 + 1] = 3;
    p.weights[row * 2 + 1] = 0;
  }
  const std::vector<float> y = run(*backend, p, loaded.table);
  for (int row = 0; row < 21; ++row) {
    const std::vector<double> x(&p.x[row * 40], &p.x[row * 40] + 40);
    EXPECT_LE(row_error(&y[row * 40], twin(weights, x, &p.experts[row * 2], &p.weights[row * 2], 1)),
              tolerance::kExperts);
  }
}

TEST_P(Experts, BatchInvariant) {
  for (const WeightKind& kind : kKinds) {
    SCOPED_TRACE(testing::Message() << kind);
    const Weights weights(kind, 6, 40, 72, 2);
    const int64_t num_rows = 23, k = 3, hidden = 40;
    const Problem all = make_problem(num_rows, 6, k, hidden, 72);
    expect_batch_invariant(GetParam(), num_rows, [&](Backend& each, const std::vector<int64_t>& order) {
      const LoadedTable loaded(each, weights);
      Problem p{static_cast<int64_t>(order.size()), k, hidden, 72, {}, {}, {}};
      for (int64_t row : order) {
        p.x.insert(p.x.end(), &all.x[row * hidden], &all.x[row * hidden] + hidden);
        p.weights.insert(p.weights.end(), &all.weights[row * k], &all.weights[row * k] + k);
        p.experts.insert(p.experts.end(), &all.experts[row * k], &all.experts[row * k] + k);
      }
      const std::vector<float> y = run(each, p, loaded.table);
      std::vector<std::vector<uint32_t>> results;
      for (size_t i = 0; i < order.size(); ++i) results.push_back(bits_of(&y[i * hidden], hidden));
      return results;
    });
  }
}

}  // namespace
}  // namespace indexshare
