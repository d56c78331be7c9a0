// SPDX-License-Identifier: Apache-2.0
// Every value of every narrow type, and rounding against a search for the nearest stored value.
#include "base/dtype.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <vector>

#include "indexshare/error.h"

namespace indexshare {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// sign * 1.mantissa * 2^(exponent - bias) from the format's definition, in double.
double defined_value(uint32_t bits, int exponent_bits, int mantissa_bits, int bias) {
  const uint32_t mantissa = bits & ((1u << mantissa_bits) - 1);
  const int exponent = static_cast<int>((bits >> mantissa_bits) & ((1u << exponent_bits) - 1));
  const bool negative = (bits >> (exponent_bits + mantissa_bits)) & 1;
  const double fraction = std::ldexp(mantissa, -mantissa_bits);
  const double magnitude =
      exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
  return negative ? -magnitude : magnitude;
}

// A narrow format as the tests see it. Magnitude codes 0 .. largest_finite ascend in value.
struct Format {
  int exponent_bits, mantissa_bits, bias;
  uint32_t largest_finite;
  std::function<float(uint32_t)> decode;
  std::function<uint32_t(float)> encode;

  double value(uint32_t code) const { return defined_value(code, exponent_bits, mantissa_bits, bias); }
  uint32_t sign() const { return 1u << (exponent_bits + mantissa_bits); }

  // The code nearest to x, ties to the even one, found by bisection and comparison in double.
  uint32_t nearest(float x) const {
    const double magnitude = std::fabs(x);
    uint32_t low = 0, high = largest_finite;
    if (magnitude >= value(high)) return high | (std::signbit(x) ? sign() : 0);
    while (high - low > 1) {
      const uint32_t middle = (low + high) / 2;
      (value(middle) <= magnitude ? low : high) = middle;
    }
    const double below = magnitude - value(low), above = value(high) - magnitude;
    const uint32_t code = below < above || (below == above && low % 2 == 0) ? low : high;
    return code | (std::signbit(x) ? sign() : 0);
  }
};

Format bf16() {
  return {8, 7, 127, 0x7f7f, [](uint32_t b) { return bf16_to_f32(static_cast<uint16_t>(b)); }, f32_to_bf16};
}
Format f16() {
  return {5, 10, 15, 0x7bff, [](uint32_t b) { return f16_to_f32(static_cast<uint16_t>(b)); }, f32_to_f16};
}
Format f8() {
  return {4, 3, 7, 0x7e, [](uint32_t b) { return f8_e4m3_to_f32(static_cast<uint8_t>(b)); }, f32_to_f8_e4m3};
}

void expect_every_value(const Format& format) {
  for (uint32_t sign : {0u, format.sign()})
    for (uint32_t magnitude = 0; magnitude <= format.largest_finite; ++magnitude) {
      const uint32_t code = sign | magnitude;
      const float value = format.decode(code);
      ASSERT_EQ(value, format.value(code)) << code;
      ASSERT_EQ(std::signbit(value), sign != 0) << code;
      ASSERT_EQ(format.encode(value), code);
    }
}

// Random bit patterns, every midpoint between neighbours, and the floats on either side of it.
void expect_nearest_even(const Format& format) {
  const double largest = format.value(format.largest_finite);
  std::vector<float> values;
  for (uint32_t code = 0; code < format.largest_finite; ++code) {
    const auto middle = static_cast<float>((format.value(code) + format.value(code + 1)) / 2);
    for (float x : {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, kInfinity)})
      values.insert(values.end(), {x, -x});
  }
  std::mt19937 random(1);
  for (int i = 0; i < 200'000; ++i) values.push_back(std::bit_cast<float>(static_cast<uint32_t>(random())));
  for (float x : values)
    if (std::fabs(x) <= largest) {
      ASSERT_EQ(format.encode(x), format.nearest(x)) << std::hexfloat << x;
    }
}

TEST(DType, Bf16EveryValue) { expect_every_value(bf16()); }
TEST(DType, F16EveryValue) { expect_every_value(f16()); }
TEST(DType, F8EveryValue) { expect_every_value(f8()); }

TEST(DType, Bf16RoundsToNearestEven) { expect_nearest_even(bf16()); }
TEST(DType, F16RoundsToNearestEven) { expect_nearest_even(f16()); }
TEST(DType, F8RoundsToNearestEven) { expect_nearest_even(f8()); }

TEST(DType, Infinities) {
  for (float x : {kInfinity, -kInfinity}) {
    EXPECT_EQ(bf16_to_f32(f32_to_bf16(x)), x);
    EXPECT_EQ(f16_to_f32(f32_to_f16(x)), x);
    EXPECT_EQ(f8_e4m3_to_f32(f32_to_f8_e4m3(x)), std::copysign(448.0f, x));
  }
}

// The first value that rounds away is half a step above the largest one.
TEST(DType, Overflow) {
  EXPECT_EQ(f32_to_f16(65519.996f), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(f32_to_f16(-1e30f), 0xfc00);
  EXPECT_EQ(f32_to_bf16(3.3895e38f), 0x7f7f);
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7f80);
  EXPECT_EQ(f32_to_f8_e4m3(449.0f), 0x7e);
  EXPECT_EQ(f32_to_f8_e4m3(-1e30f), 0xfe);
}

TEST(DType, EveryNaNStaysNaN) {
  for (uint32_t code = 0; code < 65536; ++code) {
    const bool bf16_nan = (code & 0x7fff) > 0x7f80, f16_nan = (code & 0x7fff) > 0x7c00;
    const auto bits = static_cast<uint16_t>(code);
    ASSERT_EQ(std::isnan(bf16_to_f32(bits)), bf16_nan) << code;
    ASSERT_EQ(std::isnan(f16_to_f32(bits)), f16_nan) << code;
    ASSERT_TRUE(!bf16_nan || std::isnan(bf16_to_f32(f32_to_bf16(bf16_to_f32(bits))))) << code;
    ASSERT_TRUE(!f16_nan || std::isnan(f16_to_f32(f32_to_f16(f16_to_f32(bits))))) << code;
  }
  for (uint32_t code = 0; code < 256; ++code)
    ASSERT_EQ(std::isnan(f8_e4m3_to_f32(static_cast<uint8_t>(code))), (code & 0x7f) == 0x7f) << code;
  for (uint32_t bits :
       {0x7f800001u, 0xff800001u, 0x7fffffffu, 0xffc00000u}) {  // payloads that narrowing cuts off
    const float nan = std::bit_cast<float>(bits);
    EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(nan)))) << bits;
    EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(nan)))) << bits;
    EXPECT_TRUE(std::isnan(f8_e4m3_to_f32(f32_to_f8_e4m3(nan)))) << bits;
  }
}

TEST(DType, SizesNamesAndLoads) {
  EXPECT_EQ(dtype_bytes(DType::f32), 4u);
  EXPECT_EQ(dtype_bytes(DType::f16), 2u);
  EXPECT_EQ(dtype_bytes(DType::bf16), 2u);
  EXPECT_EQ(dtype_bytes(DType::f8_e4m3), 1u);
  EXPECT_EQ(dtype_bytes(DType::i32), 4u);
  EXPECT_EQ(dtype_bytes(DType::i64), 8u);
  EXPECT_EQ(dtype_bytes(DType::u8), 1u);
  EXPECT_EQ(dtype_name(DType::f8_e4m3), "f8_e4m3");
  const float f32[] = {0, 1.5f};
  const uint16_t f16_data[] = {0, 0x3e00}, bf16_data[] = {0, 0x3fc0};
  const uint8_t f8_data[] = {0, 0x3c};
  EXPECT_EQ(load_as_f32(DType::f32, f32, 1), 1.5f);
  EXPECT_EQ(load_as_f32(DType::f16, f16_data, 1), 1.5f);
  EXPECT_EQ(load_as_f32(DType::bf16, bf16_data, 1), 1.5f);
  EXPECT_EQ(load_as_f32(DType::f8_e4m3, f8_data, 1), 1.5f);
  EXPECT_THROW(load_as_f32(DType::i32, f32, 1), Error);
}

}  // namespace
}  // namespace indexshare
