// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "backend/harness.h"
#include "backend/norm_test_cases.h"
#include "tolerances.h"

namespace indexshare {
namespace {

class LayerNorm : public OpTest {};
INSTANTIATE_FOR_BACKENDS(LayerNorm);

std::vector<double> twin(const float* x, const std::vector<float>& weight, const std::vector<float>& bias,
                         double eps) {
  const size_t dim = weight.size();
  double mean = 0, squares = 0;
  for (size_t i = 0; i < dim; ++i) mean += x[i] / static_cast<double>(dim);
  for (size_t i = 0; i < dim; ++i) squares += (x[i] - mean) * (x[i] - mean);
  const double deviation = std::sqrt(squares / static_cast<double>(dim) + eps);
  std::vector<double> y(dim);
  for (size_t i = 0; i < dim; ++i) y[i] = (x[i] - mean) / deviation * weight[i] + bias[i];
  return y;
}

TEST_P(LayerNorm, EqualsTwin) {
  for (int64_t dim : kNormDims)
    for (bool in_place : {false, true}) {
      SCOPED_TRACE(testing::Message() << "dim " << dim << " in place " << in_place);
      Rng rng(dim);
      const int64_t stride = dim + 7;
      const std::vector<float> x = hostile_norm_rows(dim, stride, rng);
      const std::vector<float> weight = rng.uniforms(dim), bias = rng.uniforms(dim);
      std::vector<float> y = x;
      backend->layer_norm({in_place ? y.data() : x.data(), stride, weight.data(), bias.data(), y.data(),
                           stride, 8, dim, 1e-6f});
      for (int64_t row = 0; row < 8; ++row) {
        EXPECT_LE(row_error(&y[row * stride], twin(&x[row * stride], weight, bias, 1e-6f)), tolerance::kNorm)
            << row;
        for (int64_t i = dim; i < stride; ++i)
          ASSERT_EQ(y[row * stride + i], x[row * stride + i]) << "padding";
      }
    }
}

// A mean far larger than the spread: E[x^2] - mean^2 would cancel to nothing.
TEST_P(LayerNorm, LargeMeanDoesNotCancel) {
  Rng rng(1);
  const int64_t dim = 128;
  const std::vector<float> weight(dim, 1.0f), bias(dim, 0.0f);
  std::vector<float> x(dim), y(dim);
  for (float& value : x) value = 4096.0f + static_cast<float>(rng.integer(-8, 8));
  backend->layer_norm({x.data(), dim, weight.data(), bias.data(), y.data(), dim, 1, dim, 1e-6f});
  EXPECT_LE(row_error(y.data(), twin(x.data(), weight, bias, 1e-6f)), tolerance::kNorm * 100);
}

TEST_P(LayerNorm, NoRows) { backend->layer_norm({nullptr, 8, nullptr, nullptr, nullptr, 8, 0, 8, 1e-6f}); }

TEST_P(LayerNorm, BatchInvariant) {
  for (int64_t dim : {13, 128}) {
    Rng rng(dim);
    const std::vector<float> x = hostile_norm_rows(dim, dim, rng);
    const std::vector<float> weight = rng.uniforms(dim), bias = rng.uniforms(dim);
    expect_batch_invariant(GetParam(), 8, [&](Backend& each, const std::vector<int64_t>& order) {
      std::vector<float> input, output(order.size() * dim);
      for (int64_t row : order) input.insert(input.end(), &x[row * dim], &x[row * dim] + dim);
      each.layer_norm({input.data(), dim, weight.data(), bias.data(), output.data(), dim,
                       static_cast<int64_t>(order.size()), dim, 1e-6f});
      std::vector<std::vector<uint32_t>> results;
      for (size_t i = 0; i < order.size(); ++i) results.push_back(bits_of(&output[i * dim], dim));
      return results;
    });
  }
}

}  // namespace
}  // namespace indexshare
