// SPDX-License-Identifier: Apache-2.0
// Sums over a row in one fixed order, and counted loads and stores for its tail.
#if defined(INDEXSHARE_CPU_NORM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef INDEXSHARE_CPU_NORM_INL_H_
#undef INDEXSHARE_CPU_NORM_INL_H_
#else
#define INDEXSHARE_CPU_NORM_INL_H_
#endif

#include "backend/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace indexshare {
namespace HWY_NAMESPACE {

// The first n <= kLanes elements; `rest` in the other lanes. Never touches memory beyond them.
HWY_INLINE Floats load_n(const float* p, size_t n, float rest = 0.0f) {
  if (n == kLanes) return load(p);
  float lanes[kLanes];
  for (size_t i = 0; i < kLanes; ++i) lanes[i] = i < n ? p[i] : rest;
  return load(lanes);
}

HWY_INLINE void store_n(Floats v, float* p, size_t n) {
  if (n == kLanes) return store(v, p);
  float lanes[kLanes];
  store(v, lanes);
  for (size_t i = 0; i < n; ++i) p[i] = lanes[i];
}

// body(first element, number of elements) for each vector of a row.
template <class Body>
HWY_INLINE void for_each_vector(size_t count, const Body& body) {
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) body(i, kLanes);
  if (i < count) body(i, count - i);
}

// Folds a row with total = accumulate(v, total) into four interleaved vectors, the tail element by element
// after them.
template <class Accumulate>
HWY_INLINE float sum_of(const float* x, size_t count, const Accumulate& accumulate) {
  const FloatTag d;
  Floats t0 = hn::Zero(d), t1 = t0, t2 = t0, t3 = t0;
  size_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
    t0 = accumulate(load(x + i), t0);
    t1 = accumulate(load(x + i + kLanes), t1);
    t2 = accumulate(load(x + i + 2 * kLanes), t2);
    t3 = accumulate(load(x + i + 3 * kLanes), t3);
  }
  for (; i + kLanes <= count; i += kLanes) t0 = accumulate(load(x + i), t0);
  float lanes[kLanes];
  store(hn::Add(hn::Add(t0, t1), hn::Add(t2, t3)), lanes);
  float sum = 0;
  for (size_t lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
  for (; i < count; ++i) {
    store(accumulate(broadcast(x[i]), hn::Zero(d)), lanes);
    sum += lanes[0];
  }
  return sum;
}

}  // namespace HWY_NAMESPACE
}  // namespace indexshare
HWY_AFTER_NAMESPACE();

#endif
