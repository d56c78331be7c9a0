// SPDX-License-Identifier: Apache-2.0
// The small vector vocabulary of the kernels: f32 vectors of at most 16 lanes, exp, widening loads and
// stores. Included once per instruction set, after hwy/highway.h.
#if defined(INDEXSHARE_CPU_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef INDEXSHARE_CPU_VECTOR_INL_H_
#undef INDEXSHARE_CPU_VECTOR_INL_H_
#else
#define INDEXSHARE_CPU_VECTOR_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>

#include <cstddef>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace indexshare {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using FloatTag = hn::CappedTag<float, 16>;
using IntTag = hn::Rebind<int32_t, FloatTag>;
using WordTag = hn::Rebind<uint32_t, FloatTag>;
using Floats = hn::Vec<FloatTag>;

constexpr size_t kLanes = hn::MaxLanes(FloatTag());
constexpr size_t kHalfPanel = 16;  // columns 0..15 of a panel fill first vectors, 16..31 second ones
constexpr size_t kVectorsPerHalf = kHalfPanel / kLanes;

// Rows of a register tile of two vectors: accumulators, two weights and a broadcast fit the registers (32 of
// AVX-512, 16 of AVX2), and the accumulators cover two FMA pipes of latency 4.
constexpr int kTileRows = kLanes == 16 ? 8 : kLanes == 8 ? 6 : 4;

HWY_INLINE Floats load(const float* p) { return hn::LoadU(FloatTag(), p); }
HWY_INLINE void store(Floats v, float* p) { hn::StoreU(v, FloatTag(), p); }
HWY_INLINE Floats broadcast(float value) { return hn::Set(FloatTag(), value); }

// exp to 2 ulp for any x: NaN stays NaN, overflow gives infinity.
HWY_INLINE Floats exponential(Floats x) {
  const FloatTag d;
  const Floats limit = hn::Set(d, 104.0f);
  const Floats y = hn::Exp(d, hn::IfThenElse(hn::Lt(x, limit), x, limit));
  return hn::IfThenElse(hn::Eq(x, x), y, x);
}

// bf16 to f32, kLanes elements.
HWY_INLINE Floats load_bf16(const uint16_t* p) {
  const hn::Rebind<uint16_t, FloatTag> d16;
  return hn::BitCast(FloatTag(), hn::ShiftLeft<16>(hn::PromoteTo(WordTag(), hn::LoadU(d16, p))));
}

HWY_INLINE void widen_bf16(const uint16_t* from, size_t count, float* to) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(load_bf16(from + i), to + i);
  for (; i < count; ++i) {
    const uint32_t bits = static_cast<uint32_t>(from[i]) << 16;
    __builtin_memcpy(to + i, &bits, sizeof bits);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace indexshare
HWY_AFTER_NAMESPACE();

#endif
