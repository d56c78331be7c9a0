// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <limits>

#include "backend/harness.h"
#include "tolerances.h"

namespace indexshare {
namespace {

class Linear : public OpTest {};
INSTANTIATE_FOR_BACKENDS(Linear);

constexpr DType kDTypes[] = {DType::f32, DType::f16, DType::bf16, DType::f8_e4m3};
constexpr float kUntouched = 12345.0f;

// max over out of |y[out] - sum_i x[i] W[out, i]| / max over out of sum_i |x[i] W[out, i]|, in double.
double linear_error(const HostMatrix& weight, const float* x, const float* y) {
  double error = 0, largest = 0;
  for (int64_t out = 0; out < weight.out_dim(); ++out) {
    double sum = 0, size = 0;
    for (int64_t in = 0; in < weight.in_dim(); ++in) {
      const double product = x[in] * weight.at(out, in);
      sum += product;
      size += std::fabs(product);
    }
    if (!std::isfinite(y[out])) return std::numeric_limits<double>::infinity();
    error = std::max(error, std::fabs(y[out] - sum));
    largest = std::max(largest, size);
  }
  return error == 0 ? 0 : error / largest;
}

struct Case {
  DType dtype;
  int64_t num_rows, rows, cols;  // of the weight as stored
  bool transpose;
};

void check(Backend& backend, const Case& c) {
  SCOPED_TRACE(testing::Message() << dtype_name(c.dtype) << " [" << c.rows << ", " << c.cols << "] transpose "
                                  << c.transpose << ", " << c.num_rows << " rows");
  Rng rng(c.rows * 1000 + c.cols);
  const HostMatrix weight(c.dtype, c.rows, c.cols, rng, c.transpose);
  const int64_t in = weight.in_dim(), out = weight.out_dim(), x_stride = in + 3, y_stride = out + 5;
  const std::vector<float> x = rng.uniforms(c.num_rows * x_stride);
  std::vector<float> y(c.num_rows * y_stride, kUntouched);
  const auto matrix = weight.load(backend);
  ASSERT_EQ(matrix->out_dim(), out);
  ASSERT_EQ(matrix->in_dim(), in);
  const LinearArgs args{x.data(), x_stride, matrix.get(), y.data(), y_stride, c.num_rows};
  backend.linear({&args, 1});
  for (int64_t row = 0; row < c.num_rows; ++row) {
    ASSERT_LE(linear_error(weight, &x[row * x_stride], &y[row * y_stride]), tolerance::kLinear)
        << "row " << row;
    for (int64_t i = out; i < y_stride; ++i) ASSERT_EQ(y[row * y_stride + i], kUntouched) << "row " << row;
  }
}

TEST_P(Linear, EqualsTwinForEveryShapeAndDType) {
  const int64_t shapes[][2] = {{1, 1},     {13, 1},    {1, 13},    {13, 40},   {40, 13},   {72, 72},
                               {128, 128}, {129, 127}, {200, 300}, {576, 130}, {130, 576}, {17, 1000}};
  for (DType dtype : kDTypes)
    for (const auto& [rows, cols] : shapes)
      for (bool transpose : {false, true})
        for (int64_t num_rows : {0, 1, 2, 5, 17}) check(*backend, {dtype, num_rows, rows, cols, transpose});
}

TEST_P(Linear, ManyRows) {
  for (DType dtype : kDTypes) check(*backend, {dtype, 133, 72, 200, false});
}

TEST_P(Linear, EveryProductOfACall) {
  Rng rng(1);
  const HostMatrix first(DType::bf16, 40, 72, rng), second(DType::f32, 13, 40, rng),
      third(DType::f8_e4m3, 130, 72, rng);
  const auto a = first.load(*backend), b = second.load(*backend), c = third.load(*backend);
  const std::vector<float> x = rng.uniforms(3 * 72), z = rng.uniforms(2 * 40);
  std::vector<float> y_a(3 * 40), y_b(2 * 13), y_c(3 * 130);
  const LinearArgs products[] = {{x.data(), 72, a.get(), y_a.data(), 40, 3},
                                 {z.data(), 40, b.get(), y_b.data(), 13, 2},
                                 {z.data(), 40, b.get(), y_b.data(), 13, 0},
                                 {x.data(), 72, c.get(), y_c.data(), 130, 3}};
  backend->linear(products);
  backend->linear({});
  for (int row = 0; row < 3; ++row) {
    EXPECT_LE(linear_error(first, &x[row * 72], &y_a[row * 40]), tolerance::kLinear);
    EXPECT_LE(linear_error(third, &x[row * 72], &y_c[row * 130]), tolerance::kLinear);
  }
  for (int row = 0; row < 2; ++row)
    EXPECT_LE(linear_error(second, &z[row * 40], &y_b[row * 13]), tolerance::kLinear);
}

TEST_P(Linear, TinyAndHugeActivationsKeepTheirPrecision) {
  Rng rng(2);
  for (DType dtype : kDTypes)
    for (float magnitude : {1e-30f, 1e-10f, 1e10f, 1e30f}) {
      const HostMatrix weight(dtype, 72, 130, rng);
      const std::vector<float> x = rng.uniforms(130, -magnitude, magnitude);
      std::vector<float> y(72);
      const auto matrix = weight.load(*backend);
      const LinearArgs args{x.data(), 130, matrix.get(), y.data(), 72, 1};
      backend->linear({&args, 1});
      EXPECT_LE(linear_error(weight, x.data(), y.data()), tolerance::kLinear)
          << dtype_name(dtype) << magnitude;
    }
}

TEST_P(Linear, NaNAndInfinityStayInTheirRow) {
  Rng rng(3);
  const HostMatrix weight(DType::bf16, 40, 72, rng);
  const auto matrix = weight.load(*backend);
  std::vector<float> x = rng.uniforms(5 * 72), clean(5 * 40), y(5 * 40);
  LinearArgs args{x.data(), 72, matrix.get(), clean.data(), 40, 5};
  backend->linear({&args, 1});
  x[1 * 72 + 7] = std::numeric_limits<float>::quiet_NaN();
  x[3 * 72 + 71] = std::numeric_limits<float>::infinity();
  args.y = y.data();
  backend->linear({&args, 1});
  for (int i = 0; i < 40; ++i) {
    EXPECT_TRUE(std::isnan(y[1 * 40 + i]));
    EXPECT_FALSE(std::isfinite(y[3 * 40 + i]));
  }
  for (int row : {0, 2, 4}) EXPECT_EQ(bits_of(&y[row * 40], 40), bits_of(&clean[row * 40], 40));
}

// Rows 70 .. 209 of a larger quantised matrix keep the scales of the blocks they lie in there.
TEST_P(Linear, RowsCutFromAQuantisedMatrix) {
  Rng rng(6);
  const HostMatrix whole(DType::f8_e4m3, 300, 200, rng);
  MatrixSource source = whole.source();
  source.weight.data += 70 * 200;
  source.weight.shape[0] = 140;
  source.scale_row_offset = 70;
  const auto cut = backend->load_matrix(source), all = whole.load(*backend);
  const std::vector<float> x = rng.uniforms(3 * 200);
  std::vector<float> y_cut(3 * 140), y_all(3 * 300);
  const LinearArgs products[] = {{x.data(), 200, cut.get(), y_cut.data(), 140, 3},
                                 {x.data(), 200, all.get(), y_all.data(), 300, 3}};
  backend->linear(products);
  for (int row = 0; row < 3; ++row)
    EXPECT_EQ(bits_of(&y_cut[row * 140], 140), bits_of(&y_all[row * 300 + 70], 140)) << "row " << row;
}

TEST_P(Linear, OffsetsBeyondTwoToThe31) {
  const int64_t stride = (int64_t{1} << 31) + 8;
  const auto x = backend->allocate(static_cast<size_t>(stride + 64) * sizeof(float));
  const auto y = backend->allocate(static_cast<size_t>(stride + 64) * sizeof(float));
  auto* x_data = static_cast<float*>(x->data());
  auto* y_data = static_cast<float*>(y->data());
  Rng rng(4);
  const HostMatrix weight(DType::f32, 40, 13, rng);
  const auto matrix = weight.load(*backend);
  for (int row = 0; row < 2; ++row)
    for (int i = 0; i < 13; ++i) x_data[row * stride + i] = rng.uniform(-1, 1);
  const LinearArgs args{x_data, stride, matrix.get(), y_data, stride, 2};
  backend->linear({&args, 1});
  for (int row = 0; row < 2; ++row)
    EXPECT_LE(linear_error(weight, x_data + row * stride, y_data + row * stride), tolerance::kLinear);
}

TEST_P(Linear, BatchInvariant) {
  const int64_t shapes[][2] = {{13, 40}, {72, 1000}, {300, 200}};
  for (DType dtype : kDTypes)
    for (const auto& [rows, cols] : shapes)
      for (bool transpose : {false, true}) {
        SCOPED_TRACE(testing::Message()
                     << dtype_name(dtype) << " " << rows << " " << cols << " " << transpose);
        Rng rng(9);
        const HostMatrix weight(dtype, rows, cols, rng, transpose);
        const int64_t in = weight.in_dim(), out = weight.out_dim(), num_rows = 37;
        const std::vector<float> x = rng.uniforms(num_rows * in);
        expect_batch_invariant(GetParam(), num_rows, [&](Backend& each, const std::vector<int64_t>& order) {
          std::vector<float> input, output(order.size() * out);
          for (int64_t row : order) input.insert(input.end(), &x[row * in], &x[row * in] + in);
          const auto matrix = weight.load(each);
          const LinearArgs args{input.data(),  in,  matrix.get(),
                                output.data(), out, static_cast<int64_t>(order.size())};
          each.linear({&args, 1});
          std::vector<std::vector<uint32_t>> results;
          for (size_t i = 0; i < order.size(); ++i) results.push_back(bits_of(&output[i * out], out));
          return results;
        });
      }
}

}  // namespace
}  // namespace indexshare
