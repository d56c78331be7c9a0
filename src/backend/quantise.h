// SPDX-License-Identifier: Apache-2.0
// Symmetric quantisation, the one definition all backends share: code = round(x / scale) to nearest even,
// scale = largest |x| of the group / largest code. A group of zeros has scale 0. A group with a NaN or an
// infinity has scale NaN and codes 0, so that what is made of it is NaN and not a plausible number.
#pragma once

#include <cstdint>

namespace indexshare {

constexpr int64_t kLatentScaleGroup = 128;  // elements of a cached latent that share a scale
constexpr int64_t kInt8WeightGroup = 128;   // columns of a weight row that share a scale
constexpr int64_t kInt4WeightGroup = 64;

/// @param x [count]  @param codes [count] in [-127, 127]  @return the scale
float quantise_int8(const float* x, int64_t count, int8_t* codes);

/// @param codes [count] in [-32767, 32767]  @return the scale
float quantise_int16(const float* x, int64_t count, int16_t* codes);

/// @param codes [count] in [-8, 7]: the largest |x| becomes -8 or 7, whichever errs less in squares
/// @return the scale
float quantise_int4(const float* x, int64_t count, int8_t* codes);

}  // namespace indexshare
