// SPDX-License-Identifier: Apache-2.0
// Filling and cutting Candidates, once per instruction set.
#if defined(INDEXSHARE_CPU_CANDIDATES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef INDEXSHARE_CPU_CANDIDATES_INL_H_
#undef INDEXSHARE_CPU_CANDIDATES_INL_H_
#else
#define INDEXSHARE_CPU_CANDIDATES_INL_H_
#endif

#include "backend/cpu/candidates.h"
#include "backend/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace indexshare {
namespace HWY_NAMESPACE {

using Ints = hn::Vec<IntTag>;

// Signed integers in the order of the floats; -0 becomes +0. No NaN comes here.
HWY_INLINE Ints ordered(Floats scores) {
  const IntTag d;
  const Ints bits = hn::BitCast(d, hn::Add(scores, hn::Zero(FloatTag())));
  return hn::Xor(bits, hn::And(hn::ShiftRight<31>(bits), hn::Set(d, 0x7fffffff)));
}

HWY_INLINE float from_ordered(int32_t key) {
  const int32_t bits = key ^ ((key >> 31) & 0x7fffffff);
  float score;
  __builtin_memcpy(&score, &bits, sizeof score);
  return score;
}

// How many of `order` (a multiple of kLanes) are at least `key`.
HWY_INLINE int64_t count_at_least(const int32_t* order, int64_t count, int32_t key) {
  const IntTag d;
  const Ints limit = hn::Set(d, key);
  Ints below = hn::Zero(d);  // minus the number, lane by lane
  for (int64_t i = 0; i < count; i += static_cast<int64_t>(kLanes))
    below = hn::Add(below, hn::VecFromMask(d, hn::Lt(hn::LoadU(d, order + i), limit)));
  int32_t lanes[kLanes];
  hn::StoreU(below, d, lanes);
  int64_t total = count;
  for (size_t lane = 0; lane < kLanes; ++lane) total += lanes[lane];
  return total;
}

// The k-th largest of `order`, found bit by bit from the first one in which smallest and largest differ.
HWY_INLINE int32_t kth_largest(const int32_t* order, int64_t count, int64_t k, int32_t smallest,
                               int32_t largest) {
  const uint32_t flip = 0x80000000u;  // unsigned bits build up in the order of signed values
  const uint32_t low = static_cast<uint32_t>(smallest) ^ flip, high = static_cast<uint32_t>(largest) ^ flip;
  if (low == high) return smallest;
  uint32_t bit = flip >> __builtin_clz(low ^ high);
  uint32_t prefix = high & ~(bit | (bit - 1));
  for (; bit != 0; bit >>= 1) {
    const auto key = static_cast<int32_t>((prefix | bit) ^ flip);
    if (count_at_least(order, count, key) >= k) prefix |= bit;
  }
  return static_cast<int32_t>(prefix ^ flip);
}

// order[i] = ordered(scores[i]), padded to whole vectors by the least value there is; returns their number.
HWY_INLINE int64_t fill_order(const Candidates& c, int32_t& smallest, int32_t& largest) {
  const IntTag d;
  const int64_t lanes = static_cast<int64_t>(kLanes);
  Ints low = hn::Set(d, INT32_MAX), high = hn::Set(d, INT32_MIN);
  int64_t i = 0;
  for (; i + lanes <= c.count; i += lanes) {
    const Ints key = ordered(load(c.scores + i));
    low = hn::Min(low, key);
    high = hn::Max(high, key);
    hn::StoreU(key, d, c.order + i);
  }
  int32_t lows[kLanes], highs[kLanes];
  if (i < c.count) {
    const auto mask = hn::FirstN(d, static_cast<size_t>(c.count - i));
    const Ints key = ordered(load(c.scores + i));
    low = hn::Min(low, hn::IfThenElse(mask, key, low));
    high = hn::Max(high, hn::IfThenElse(mask, key, high));
    hn::StoreU(hn::IfThenElse(mask, key, hn::Set(d, INT32_MIN)), d, c.order + i);
    i += lanes;
  }
  hn::StoreU(low, d, lows);
  hn::StoreU(high, d, highs);
  smallest = lows[0], largest = highs[0];
  for (size_t lane = 1; lane < kLanes; ++lane) {
    smallest = HWY_MIN(smallest, lows[lane]);
    largest = HWY_MAX(largest, highs[lane]);
  }
  return i;
}

// Keeps scores above the threshold and the first `equals` equal to it.
HWY_INLINE void keep_best(Candidates& c, int64_t equals) {
  int64_t kept = 0;
  for (int64_t i = 0; i < c.count; ++i) {
    const float score = c.scores[i];
    const bool equal = score == c.threshold && equals > 0;
    equals -= equal;
    c.scores[kept] = score;
    c.positions[kept] = c.positions[i];
    kept += score > c.threshold || equal;
  }
  c.count = kept;
}

// The same where every equal one stays.
HWY_INLINE void keep_at_least_threshold(Candidates& c) {
  const FloatTag d;
  const IntTag di;
  const Floats threshold = hn::Set(d, c.threshold);
  int64_t kept = 0;
  for (int64_t i = 0; i < c.count; i += static_cast<int64_t>(kLanes)) {
    const Floats scores = load(c.scores + i);
    const auto positions = hn::LoadU(di, c.positions + i);
    const auto mask = hn::And(hn::Ge(scores, threshold), hn::FirstN(d, static_cast<size_t>(c.count - i)));
    store(hn::Compress(scores, mask), c.scores + kept);
    hn::StoreU(hn::Compress(positions, hn::RebindMask(di, mask)), di, c.positions + kept);
    kept += static_cast<int64_t>(hn::CountTrue(d, mask));
  }
  c.count = kept;
}

// Keeps the topk best (all where there are fewer), still in ascending position.
HWY_NOINLINE void shrink(Candidates& c) {
  if (c.count <= c.topk) return;
  int32_t smallest, largest;
  const int64_t count = fill_order(c, smallest, largest);
  const int32_t key = kth_largest(c.order, count, c.topk, smallest, largest);
  const int64_t larger = key == INT32_MAX ? 0 : count_at_least(c.order, count, key + 1);
  const int64_t at_least = HWY_MIN(count_at_least(c.order, count, key), c.count);
  c.threshold = from_ordered(key);
  c.selective = true;
  at_least == c.topk ? keep_at_least_threshold(c) : keep_best(c, c.topk - larger);
}

// Adds the survivors of a later part of the stream.
void merge_candidates(Candidates& into, const Candidates& later) {
  into.has_nan |= later.has_nan;
  for (int64_t i = 0; i < later.count; ++i) {
    if (into.selective && !(later.scores[i] > into.threshold)) continue;
    into.scores[into.count] = later.scores[i];
    into.positions[into.count++] = later.positions[i];
    if (into.full()) shrink(into);
  }
  shrink(into);
}

}  // namespace HWY_NAMESPACE
}  // namespace indexshare
HWY_AFTER_NAMESPACE();

#endif
