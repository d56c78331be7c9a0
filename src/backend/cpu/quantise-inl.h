// SPDX-License-Identifier: Apache-2.0
// quantise_int8 and quantise_int16 of quantise.h by vectors: the same scale and codes.
#if defined(INDEXSHARE_CPU_QUANTISE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef INDEXSHARE_CPU_QUANTISE_INL_H_
#undef INDEXSHARE_CPU_QUANTISE_INL_H_
#else
#define INDEXSHARE_CPU_QUANTISE_INL_H_
#endif

#include <algorithm>
#include <cstring>
#include <limits>

#include "backend/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace indexshare {
namespace HWY_NAMESPACE {

/// @param x [count], a multiple of kLanes  @param limit  the largest code  @param codes [count] int8_t or
/// int16_t
/// @return the scale
template <class Code>
float quantise(const float* x, int64_t count, float limit, Code* codes) {
  const IntTag di;
  const hn::Rebind<Code, IntTag> dc;
  const auto lanes = static_cast<int64_t>(kLanes);
  const auto without_sign = hn::Set(di, 0x7fffffff);
  auto magnitudes = hn::Zero(di);  // the bits of non-negative floats are ordered as they are
  for (int64_t i = 0; i < count; i += lanes)
    magnitudes = hn::Max(magnitudes, hn::And(hn::BitCast(di, load(x + i)), without_sign));
  const int32_t bits = hn::GetLane(hn::MaxOfLanes(di, magnitudes));
  float largest;
  std::memcpy(&largest, &bits, sizeof largest);
  if (bits >= 0x7f800000 || largest < 1e-30f) {
    std::fill_n(codes, count, Code{0});
    return bits >= 0x7f800000 ? std::numeric_limits<float>::quiet_NaN() : 0.0f;
  }
  const Floats inverse = broadcast(limit / largest);
  const auto high = hn::Set(di, static_cast<int32_t>(limit)), low = hn::Neg(high);
  for (int64_t i = 0; i < count; i += lanes) {
    const auto code = hn::NearestInt(hn::Mul(load(x + i), inverse));
    hn::StoreU(hn::DemoteTo(dc, hn::Max(low, hn::Min(code, high))), dc, codes + i);
  }
  return largest / limit;
}

}  // namespace HWY_NAMESPACE
}  // namespace indexshare
HWY_AFTER_NAMESPACE();

#endif
