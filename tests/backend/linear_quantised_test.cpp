// SPDX-License-Identifier: Apache-2.0
// Products whose weights are int8 or int4 or whose activations are rounded: against a twin in double, and
// with integer arithmetic bit for bit against its definition on every instruction path that has it.
#include <cmath>
#include <cstring>
#include <limits>

#include "backend/cpu/cpu_backend.h"
#include "backend/harness.h"
#include "backend/quantise.h"
#include "indexshare/error.h"
#include "tolerances.h"

namespace indexshare {
namespace {

class LinearQuantised : public OpTest {};
INSTANTIATE_FOR_BACKENDS(LinearQuantised);

std::vector<WeightKind> weight_kinds() {
  std::vector<WeightKind> kinds;
  for (int bits : {8, 16, 32}) {
    for (DType dtype : {DType::f32, DType::f16, DType::bf16, DType::f8_e4m3}) {
      if (bits < 32) kinds.push_back({dtype, WeightFormat::as_stored, bits});
      kinds.push_back({dtype, WeightFormat::int8, bits});
      kinds.push_back({dtype, WeightFormat::int4, bits});
    }
  }
  return kinds;
}

double tolerance_of(int activation_bits) {
  return activation_bits == 32   ? tolerance::kLinear
         : activation_bits == 16 ? tolerance::kLinear16
                                 : tolerance::kLinear8;
}

std::vector<float> linear(Backend& backend, const Matrix& weight, const std::vector<float>& x) {
  const int64_t in = weight.in_dim(), out = weight.out_dim();
  const auto num_rows = static_cast<int64_t>(x.size()) / in;
  std::vector<float> y(num_rows * out, 12345.0f);
  const LinearArgs args{x.data(), in, &weight, y.data(), out, num_rows};
  backend.linear({&args, 1});
  return y;
}

// max over out of |y[out] - sum_i x[i] W[out, i]| / max over out of sum_i |x[i] W[out, i]|.
double error_of(const HostMatrix& weight, const float* x, const float* y) {
  double error = 0, largest = 0;
  for (int64_t out = 0; out < weight.out_dim(); ++out) {
    double sum = 0, size = 0;
    for (int64_t in = 0; in < weight.in_dim(); ++in) {
      const double product = x[in] * weight.at(out, in);
      sum += product;
      size += std::fabs(product);
    }
    error = std::max(error, std::fabs(y[out] - sum));
    largest = std::max(largest, size);
  }
  return error == 0 ? 0 : error / largest;
}

TEST_P(LinearQuantised, EqualsTwinForEveryKind) {
  const int64_t shapes[][2] = {{1, 1}, {13, 40}, {40, 13}, {128, 128}, {130, 300}, {33, 1030}};
  for (const WeightKind& kind : weight_kinds())
    for (const auto& [rows, cols] : shapes)
      for (bool transpose : {false, true})
        for (int64_t num_rows : {0, 1, 5, 17, 40}) {
          SCOPED_TRACE(testing::Message() << kind << " [" << rows << ", " << cols << "] transpose "
                                          << transpose << ", " << num_rows << " rows");
          Rng rng(rows * 1000 + cols);
          const HostMatrix weight(kind, rows, cols, rng, transpose);
          const int64_t in = weight.in_dim(), out = weight.out_dim();
          const std::vector<float> x = rng.uniforms(num_rows * in);
          const std::vector<float> y = linear(*backend, *weight.load(*backend), x);
          for (int64_t row = 0; row < num_rows; ++row)
            ASSERT_LE(error_of(weight, &x[row * in], &y[row * out]), tolerance_of(kind.activation_bits))
                << "row " << row;
        }
}

TEST_P(LinearQuantised, SixteenBitsKeepOutliersAndSmallValuesApart) {
  Rng rng(11);
  const HostMatrix weight({DType::bf16, WeightFormat::as_stored, 16}, 40, 600, rng);
  std::vector<float> x = rng.uniforms(2 * 600);
  for (size_t i = 0; i < x.size(); i += 50) x[i] *= 1000;
  const std::vector<float> y = linear(*backend, *weight.load(*backend), x);
  for (int row = 0; row < 2; ++row)
    EXPECT_LE(error_of(weight, &x[row * 600], &y[row * 40]), tolerance::kLinear16);
}

TEST_P(LinearQuantised, BatchInvariant) {
  for (const WeightKind& kind : weight_kinds())
    for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{72, 330}, {13, 40}}) {
      SCOPED_TRACE(testing::Message() << kind << " " << rows << " " << cols);
      Rng rng(9);
      const HostMatrix weight(kind, rows, cols, rng);
      const std::vector<float> x = rng.uniforms(37 * cols);
      expect_batch_invariant(GetParam(), 37, [&](Backend& each, const std::vector<int64_t>& order) {
        std::vector<float> input;
        for (int64_t row : order) input.insert(input.end(), &x[row * cols], &x[row * cols] + cols);
        const std::vector<float> y = linear(each, *weight.load(each), input);
        std::vector<std::vector<uint32_t>> results;
        for (size_t i = 0; i < order.size(); ++i) results.push_back(bits_of(&y[i * rows], rows));
        return results;
      });
    }
}

// More rows than a share holds, more columns than it holds at once, and rows that end within a tile.
TEST_P(LinearQuantised, RowsOfALargeBatch) {
  constexpr int64_t kOut = 40;
  if (GetParam() == "reference") GTEST_SKIP() << "has no blocks";
  for (const WeightKind& kind : weight_kinds())
    for (const auto& [rows, in] : {std::pair<int64_t, int64_t>{600, 2200}, {20, 1600}, {33, 3200}}) {
      if (kind.dtype == DType::f32 || kind.dtype == DType::f16) continue;
      SCOPED_TRACE(testing::Message() << kind << " " << rows << " " << in);
      Rng rng(12);
      const HostMatrix weight(kind, kOut, in, rng);
      const auto matrix = weight.load(*backend);
      std::vector<float> x = rng.uniforms(rows * in);
      const int64_t small = rows / 5 + 7;  // sums are subnormal, many inputs too
      for (int64_t i = small * in; i < (small + 1) * in; ++i) x[i] *= 1e-37f;
      const std::vector<float> y = linear(*backend, *matrix, x);
      for (int64_t row : {int64_t{0}, int64_t{1}, small, rows / 2, rows - 17, rows - 1}) {
        const std::vector<float> alone =
            linear(*backend, *matrix, {x.begin() + row * in, x.begin() + (row + 1) * in});
        ASSERT_EQ(bits_of(&y[row * kOut], kOut), bits_of(alone.data(), kOut)) << "row " << row;
      }
    }
}

TEST_P(LinearQuantised, NaNAndInfinityStayInTheirRow) {
  for (const WeightKind& kind : weight_kinds()) {
    SCOPED_TRACE(testing::Message() << kind);
    Rng rng(3);
    const HostMatrix weight(kind, 40, 300, rng);
    const auto matrix = weight.load(*backend);
    std::vector<float> x = rng.uniforms(5 * 300);
    const std::vector<float> clean = linear(*backend, *matrix, x);
    x[1 * 300 + 7] = std::numeric_limits<float>::quiet_NaN();
    x[3 * 300 + 299] = std::numeric_limits<float>::infinity();
    const std::vector<float> y = linear(*backend, *matrix, x);
    for (int i = 0; i < 40; ++i) {
      EXPECT_TRUE(std::isnan(y[1 * 40 + i]));
      EXPECT_FALSE(std::isfinite(y[3 * 40 + i]));
    }
    for (int row : {0, 2, 4}) EXPECT_EQ(bits_of(&y[row * 40], 40), bits_of(&clean[row * 40], 40));
  }
}

TEST_P(LinearQuantised, ZerosGiveZeros) {
  for (const WeightKind& kind : weight_kinds()) {
    Rng rng(4);
    const HostMatrix weight(kind, 33, 130, rng);
    for (float y : linear(*backend, *weight.load(*backend), std::vector<float>(3 * 130)))
      ASSERT_EQ(y, 0.0f) << kind;
  }
}

// Every e4m3 code but NaN meets a one: subnormals are not lost.
TEST_P(LinearQuantised, EveryF8Code) {
  for (int bits : {8, 16, 32}) {
    std::vector<uint8_t> codes(256 * 16);
    for (int code = 0; code < 256; ++code) codes[code * 16 + code % 16] = (code & 0x7f) == 0x7f ? 0 : code;
    const std::vector<float> scales = {0.5f, 0.25f};
    MatrixSource source;
    source.weight = {"codes", DType::f8_e4m3, {256, 16}, reinterpret_cast<const std::byte*>(codes.data())};
    source.scale_inv = {"scales", DType::f32, {2, 1}, reinterpret_cast<const std::byte*>(scales.data())};
    source.activation_bits = bits;
    const std::vector<float> y =
        linear(*backend, *backend->load_matrix(source), std::vector<float>(16, 1.0f));
    for (int code = 0; code < 256; ++code)
      EXPECT_EQ(y[code], f8_e4m3_to_f32(codes[code * 16 + code % 16]) * scales[code / 128]) << code;
  }
}

struct Codes {
  std::vector<int8_t> codes;  // [rows, cols]
  std::vector<float> scales;  // [rows, ceil(cols/group)]
  MatrixSource source;
};

std::unique_ptr<Codes> random_codes(WeightFormat format, int activation_bits, int64_t rows, int64_t cols) {
  const bool int8 = format == WeightFormat::int8;
  const int64_t group = int8 ? kInt8WeightGroup : kInt4WeightGroup, groups = (cols + group - 1) / group;
  Rng rng(21);
  auto result = std::make_unique<Codes>();
  for (int64_t i = 0; i < rows * cols; ++i)
    result->codes.push_back(static_cast<int8_t>(rng.integer(int8 ? -128 : -8, int8 ? 127 : 7)));
  for (int64_t i = 0; i < rows * groups; ++i) result->scales.push_back(rng.uniform(-0.1f, 0.1f));
  MatrixSource& source = result->source;
  source.weight = {
      "codes", DType::i8, {rows, cols}, reinterpret_cast<const std::byte*>(result->codes.data())};
  source.scale_inv = {
      "scales", DType::f32, {rows, groups}, reinterpret_cast<const std::byte*>(result->scales.data())};
  source.format = format;
  source.activation_bits = activation_bits;
  return result;
}

// The definition in plain loops: exact integer dots, one fused multiply-add a group.
float integer_product(const Codes& w, int64_t out, const float* x) {
  const int64_t in = w.source.weight.shape[1], groups = w.source.scale_inv.shape[1];
  const int64_t group = w.source.format == WeightFormat::int8 ? kInt8WeightGroup : kInt4WeightGroup;
  float y = 0;
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t begin = g * group, count = std::min(group, in - begin);
    int16_t codes[128];
    int8_t small_codes[128];
    float scale;
    if (w.source.activation_bits == 16) {
      scale = quantise_int16(x + begin, count, codes);
    } else {
      scale = quantise_int8(x + begin, count, small_codes);
      std::copy_n(small_codes, count, codes);
    }
    int32_t dot = 0;
    for (int64_t i = 0; i < count; ++i) dot += codes[i] * w.codes[out * in + begin + i];
    y = std::fma(static_cast<float>(dot), scale * w.scales[out * groups + g], y);
  }
  return y;
}

TEST(LinearIntegers, BitwiseTheDefinitionOnEveryPathWithoutTiles) {
  for (const char* path : {"vnni", "avx512", "avx2", "scalar"}) {
    KernelPath kernels;
    try {
      kernels = choose_kernel_path(path);
    } catch (const Error&) {
      continue;
    }
    for (WeightFormat format : {WeightFormat::int8, WeightFormat::int4})
      for (int bits : {8, 16})
        for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{72, 600}, {31, 30}, {1, 65}}) {
          SCOPED_TRACE(testing::Message() << path << " " << bits << " bits " << rows << " " << cols);
          const auto codes = random_codes(format, bits, rows, cols);
          for (int64_t num_rows : {1, 3, 16, 37, 130}) {
            CpuBackend backend(kernels, 2);
            Rng rng(num_rows);
            std::vector<float> x = rng.uniforms(num_rows * cols);
            for (size_t i = 0; i < x.size(); i += 31) x[i] *= 100;
            const std::vector<float> y = linear(backend, *backend.load_matrix(codes->source), x);
            for (int64_t row = 0; row < num_rows; ++row)
              for (int64_t out = 0; out < rows; ++out) {
                const float expected = integer_product(*codes, out, &x[row * cols]);
                ASSERT_EQ(bits_of(&y[row * rows + out], 1), bits_of(&expected, 1))
                    << "row " << row << " of " << num_rows << ", out " << out << ": " << y[row * rows + out]
                    << ", not " << expected;
              }
          }
        }
  }
}

TEST_P(LinearQuantised, RowsReadBackByEmbed) {
  for (bool lookup_only : {false, true})
    for (const WeightKind& kind : weight_kinds()) {
      SCOPED_TRACE(testing::Message() << kind << " " << lookup_only);
      Rng rng(5);
      const HostMatrix weight(kind, 50, 200, rng);
      MatrixSource source = weight.source();
      source.lookup_only = lookup_only;
      const auto matrix = backend->load_matrix(source);
      const int32_t tokens[] = {0, 15, 16, 31, 32, 49};
      std::vector<float> y(6 * 200);
      backend->embed({tokens, matrix.get(), y.data(), 6});
      for (int i = 0; i < 6 * 200; ++i) {
        const double expected = weight.at(tokens[i / 200], i % 200);
        ASSERT_NEAR(y[i], expected, 1e-6 * std::fabs(expected));
      }
    }
}

}  // namespace
}  // namespace indexshare
