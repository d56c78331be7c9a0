// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "backend/harness.h"
#include "backend/norm_test_cases.h"
#include "tolerances.h"

namespace indexshare {
namespace {

class RmsNorm : public OpTest {};
INSTANTIATE_FOR_BACKENDS(RmsNorm);

std::vector<double> twin(const float* x, const std::vector<float>& weight, double eps) {
  const size_t dim = weight.size();
  double squares = 0;
  for (size_t i = 0; i < dim; ++i) squares += double{x[i]} * x[i];
  std::vector<double> y(dim);
  for (size_t i = 0; i < dim; ++i)
    y[i] = x[i] / std::sqrt(squares / static_cast<double>(dim) + eps) * weight[i];
  return y;
}

TEST_P(RmsNorm, EqualsTwin) {
  for (int64_t dim : kNormDims)
    for (bool in_place : {false, true}) {
      SCOPED_TRACE(testing::Message() << "dim " << dim << " in place " << in_place);
      Rng rng(dim);
      const int64_t stride = dim + 7;
      const std::vector<float> x = hostile_norm_rows(dim, stride, rng), weight = rng.uniforms(dim);
      std::vector<float> y = x;
      backend->rms_norm(
          {in_place ? y.data() : x.data(), stride, weight.data(), y.data(), stride, 8, dim, 1e-5f});
      for (int64_t row = 0; row < 8; ++row) {
        EXPECT_LE(row_error(&y[row * stride], twin(&x[row * stride], weight, 1e-5f)), tolerance::kNorm)
            << row;
        for (int64_t i = dim; i < stride; ++i)
          ASSERT_EQ(y[row * stride + i], x[row * stride + i]) << "padding";
      }
    }
}

TEST_P(RmsNorm, NoRows) { backend->rms_norm({nullptr, 8, nullptr, nullptr, 8, 0, 8, 1e-5f}); }

TEST_P(RmsNorm, BatchInvariant) {
  for (int64_t dim : {13, 576}) {
    Rng rng(dim);
    const std::vector<float> x = hostile_norm_rows(dim, dim, rng), weight = rng.uniforms(dim);
    expect_batch_invariant(GetParam(), 8, [&](Backend& each, const std::vector<int64_t>& order) {
      std::vector<float> input, output(order.size() * dim);
      for (int64_t row : order) input.insert(input.end(), &x[row * dim], &x[row * dim] + dim);
      each.rms_norm({input.data(), dim, weight.data(), output.data(), dim, static_cast<int64_t>(order.size()),
                     dim, 1e-5f});
      std::vector<std::vector<uint32_t>> results;
      for (size_t i = 0; i < order.size(); ++i) results.push_back(bits_of(&output[i * dim], dim));
      return results;
    });
  }
}

}  // namespace
}  // namespace indexshare
