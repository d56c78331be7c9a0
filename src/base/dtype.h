// SPDX-License-Identifier: Apache-2.0
// Element types of stored tensors and their exact conversion to and from f32.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace indexshare {

enum class DType : uint8_t { f32, f16, bf16, f8_e4m3, i32, i64, i8, u8 };

size_t dtype_bytes(DType dtype);
std::string_view dtype_name(DType dtype);  // "f32", "bf16", ...

inline float bf16_to_f32(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

/// Round to nearest even; NaN stays NaN.
inline uint16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

float f16_to_f32(uint16_t bits);
uint16_t f32_to_f16(float value);     // round to nearest even
float f8_e4m3_to_f32(uint8_t bits);   // OCP e4m3fn: no infinities, 0x7f and 0xff are NaN, largest 448
uint8_t f32_to_f8_e4m3(float value);  // round to nearest even, saturating at +-448

/// Element `index` of an array of a floating dtype, as f32.
float load_as_f32(DType dtype, const void* data, int64_t index);

}  // namespace indexshare
