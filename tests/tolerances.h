// SPDX-License-Identifier: Apache-2.0
// Every tolerance of the op tests. An error is max|actual - expected| / max|expected| over one row unless
// said otherwise, expected coming from a twin in double precision. Selections, translations, cache contents
// and batch invariance allow none.
#pragma once

namespace indexshare::tolerance {

inline constexpr double kLinear =
    1e-6;  // of sum |x w|: up to 1000 products in f32, whatever the weight's dtype
// x rounded to bf16 (2^-9), quantised weights cut to bf16 (2^-7.6) with a scale of 10 bits: all of it where
// `in` is 1
inline constexpr double kLinear16 = 8e-3;
inline constexpr double kLinear8 = 1e-2;     // and in 8
inline constexpr double kExperts = 1e-5;     // three products and an exp
inline constexpr double kExperts16 = 2e-2;   // the same with activations in 16 bits
inline constexpr double kExperts8 = 1e-1;    // and in 8
inline constexpr double kNorm = 5e-6;        // an outlier in a row swallows bits of the small ones
inline constexpr double kRope = 1e-6;        // relative to the larger of the pair
inline constexpr double kSilu = 1e-6;        // element by element, relative to the element
inline constexpr double kSiluFloor = 1e-36;  // below it exp(-gate) may overflow to infinity
inline constexpr double kRouteWeight = 2e-6;
// Of the largest attended element. Logits of up to +-30, so exp magnifies their rounding.
inline constexpr double kSparseAttention = 1e-5;
inline constexpr double kSparseAttentionTiles = 4e-3;  // each weight and their sum rounded to bf16: 2 x 2^-9
inline constexpr double kScore = 2e-6;  // share of the largest |score| within which two scores may swap

}  // namespace indexshare::tolerance
