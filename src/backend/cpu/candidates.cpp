// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/candidates.h"

#include <utility>

#include "backend/fixed_pattern.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/candidates.cpp"
#include "backend/cpu/targets.h"
// After targets.h.
#include <hwy/highway.h>

#include "backend/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace indexshare {
namespace HWY_NAMESPACE {

using Ints = hn::Vec<IntTag>;
using Mask = hn::Mask<FloatTag>;

HWY_INLINE Mask first_lanes(int64_t n) {
  return hn::FirstN(FloatTag(), static_cast<size_t>(HWY_MIN(n, static_cast<int64_t>(kLanes))));
}

// What may still matter: neither below nor equal to the threshold; true for NaN.
HWY_INLINE Mask enters(Floats scores, Floats threshold) { return hn::Not(hn::Le(scores, threshold)); }

// position, position + 1, ... (Iota of a variable goes through memory, element by element.)
HWY_INLINE Ints positions_from(int64_t position) {
  const IntTag d;
  return hn::Add(hn::Iota(d, 0), hn::Set(d, static_cast<int32_t>(position)));
}

/// Where candidates are appended; kept in registers while a chunk is taken.
struct Tail {
  float* scores;
  int32_t* positions;
  int64_t count;

  explicit Tail(const Candidates& c) : scores(c.scores), positions(c.positions), count(c.count) {}
  // The masked lanes; all kLanes behind the last candidate may be overwritten.
  HWY_INLINE void append(Floats s, Ints p, Mask mask) {
    const IntTag di;
    store(hn::Compress(s, mask), scores + count);
    hn::StoreU(hn::Compress(p, hn::RebindMask(di, mask)), di, positions + count);
    count += static_cast<int64_t>(hn::CountTrue(FloatTag(), mask));
  }
};

constexpr int64_t kVectors = kChunkKeys / static_cast<int64_t>(kLanes);  // of a chunk's scores

// All scores of a chunk of neighbouring positions, the first at `position`.
HWY_INLINE void take_all(const float* scores, int64_t position, Candidates& c) {
  const FloatTag d;
  const Floats threshold = broadcast(c.threshold);
  Mask any = enters(load(scores), threshold);
  for (int64_t v = 1; v < kVectors; ++v)
    any = hn::Or(any, enters(load(scores + v * static_cast<int64_t>(kLanes)), threshold));
  if (hn::AllFalse(d, any)) return;
  Tail tail(c);
  for (int64_t v = 0; v < kVectors; ++v) {
    const int64_t first = v * static_cast<int64_t>(kLanes);
    const Floats s = load(scores + first);
    tail.append(s, positions_from(position + first), enters(s, threshold));
  }
  c.count = tail.count;
}

// The first n of a group's scores.
HWY_INLINE void take_some(const float* scores, int64_t position, int64_t n, Candidates& c) {
  const Floats threshold = broadcast(c.threshold);
  Tail tail(c);
  for (int64_t i = 0; i < n; i += static_cast<int64_t>(kLanes)) {
    const Floats s = load(scores + i);
    tail.append(s, positions_from(position + i), hn::And(enters(s, threshold), first_lanes(n - i)));
  }
  c.count = tail.count;
}

// Forgets the candidates from `first` on that Fix(t) holds anyway.
void leave_out(const FixedPattern& pattern, int64_t t, int64_t first, Candidates& c) {
  const FixedSet fixed(pattern, t);
  int64_t kept = first;
  for (int64_t i = first; i < c.count; ++i) {
    const float score = c.scores[i];
    if (score == score && fixed.contains(c.positions[i])) continue;  // a NaN counts wherever it is
    c.scores[kept] = score;
    c.positions[kept++] = c.positions[i];
  }
  c.count = kept;
}

// Signed integers in the order of the floats; -0 becomes +0.
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

/// [count] keys between low and high, both included.
struct Interval {
  int32_t* keys;
  int64_t count;
  int32_t low, high;
};

// The scores of all candidates as integers of the same order; false where one is NaN.
HWY_INLINE bool order_scores(const Candidates& c, Interval& all) {
  const IntTag d;
  Ints low = hn::Set(d, INT32_MAX), high = hn::Set(d, INT32_MIN);
  Mask ordinary = hn::FirstN(FloatTag(), kLanes);
  for (int64_t i = 0; i < c.count; i += static_cast<int64_t>(kLanes)) {
    const Mask valid = first_lanes(c.count - i);
    const Floats scores = hn::IfThenElseZero(valid, load(c.scores + i));
    const Ints key = ordered(scores);
    const auto counts = hn::RebindMask(d, valid);
    ordinary = hn::And(ordinary, hn::Eq(scores, scores));
    low = hn::Min(low, hn::IfThenElse(counts, key, low));
    high = hn::Max(high, hn::IfThenElse(counts, key, high));
    hn::StoreU(key, d, c.order[0] + i);
  }
  all = {c.order[0], c.count, hn::GetLane(hn::MinOfLanes(d, low)), hn::GetLane(hn::MaxOfLanes(d, high))};
  return hn::AllTrue(FloatTag(), ordinary);
}

// Splits an interval at `middle`: what is at least that goes to `above`, the others to `below`. Returns how
// many the first are. (In place, a load would often wait for the store before it, which it overlaps in part.)
HWY_INLINE int64_t split(const Interval& all, int32_t middle, int32_t* above, int32_t* below) {
  const IntTag d;
  const Ints limit = hn::Set(d, middle);
  int64_t upper = 0, lower = 0;
  for (int64_t i = 0; i < all.count; i += static_cast<int64_t>(kLanes)) {
    const Ints keys = hn::LoadU(d, all.keys + i);
    const auto valid = hn::RebindMask(d, first_lanes(all.count - i));
    const auto is_lower = hn::Lt(keys, limit);
    const auto to_upper = hn::And(valid, hn::Not(is_lower)), to_lower = hn::And(valid, is_lower);
    hn::StoreU(hn::Compress(keys, to_upper), d, above + upper);
    hn::StoreU(hn::Compress(keys, to_lower), d, below + lower);
    upper += static_cast<int64_t>(hn::CountTrue(d, to_upper));
    lower += static_cast<int64_t>(hn::CountTrue(d, to_lower));
  }
  return upper;
}

// About the k-th largest key: that of a sample.
HWY_INLINE int32_t guess_kth_largest(const Interval& all, int64_t k) {
  constexpr int64_t kSample = 15;
  int32_t sorted[kSample];
  for (int64_t i = 0; i < kSample; ++i) {
    const int32_t key = all.keys[all.count * i / kSample];
    int64_t place = i;
    for (; place > 0 && sorted[place - 1] < key; --place) sorted[place] = sorted[place - 1];
    sorted[place] = key;
  }
  return sorted[HWY_MIN(k * kSample / all.count, kSample - 1)];
}

// The k-th largest key (k from 1): the interval it lies in is narrowed, first by guesses, then by halves;
// `above` and `below` are working memory as large as `keys`.
HWY_INLINE int32_t kth_largest(Interval all, int64_t k, int32_t* above, int32_t* below) {
  constexpr int kGuesses = 3;
  for (int round = 0; all.low < all.high; ++round) {
    const auto half = static_cast<int32_t>(all.high - (static_cast<int64_t>(all.high) - all.low) / 2);
    const int32_t middle = round < kGuesses ? HWY_MAX(guess_kth_largest(all, k), all.low + 1) : half;
    const int64_t upper = split(all, middle, above, below);
    if (upper >= k) {
      std::swap(all.keys, above);
      all.count = upper;
      all.low = middle;
    } else {
      k -= upper;
      std::swap(all.keys, below);
      all.count -= upper;
      all.high = middle - 1;
    }
  }
  return all.low;
}

// Keeps the scores above the threshold and the first of those equal to it, topk in all.
HWY_INLINE void keep_best(Candidates& c) {
  const IntTag di;
  const FloatTag d;
  const Floats threshold = broadcast(c.threshold);
  int64_t above = 0;
  for (int64_t i = 0; i < c.count; i += static_cast<int64_t>(kLanes))
    above += static_cast<int64_t>(
        hn::CountTrue(d, hn::And(hn::Gt(load(c.scores + i), threshold), first_lanes(c.count - i))));
  int64_t equals = c.topk - above;
  const int64_t count = c.count;
  Tail kept(c);
  kept.count = 0;
  for (int64_t i = 0; i < count; i += static_cast<int64_t>(kLanes)) {
    const Floats scores = load(c.scores + i);
    const Mask valid = first_lanes(count - i);
    const Mask equal = hn::And(hn::Eq(scores, threshold), valid);
    Mask keep = hn::And(hn::Gt(scores, threshold), valid);
    const auto found = static_cast<int64_t>(hn::CountTrue(d, equal));
    if (found <= equals) {
      keep = hn::Or(keep, equal);
      equals -= found;
    } else if (equals > 0) {  // the first few of these
      float lanes[kLanes];
      store(hn::IfThenElseZero(equal, broadcast(1.0f)), lanes);
      for (size_t lane = 0; lane < kLanes; ++lane)
        if (lanes[lane] != 0 && equals-- <= 0) lanes[lane] = 0;
      equals = 0;
      keep = hn::Or(keep, hn::Ne(load(lanes), hn::Zero(d)));
    }
    kept.append(scores, hn::LoadU(di, c.positions + i), keep);
  }
  c.count = kept.count;
}

HWY_NOINLINE void cut(Candidates& c) {
  Interval all;
  if (!order_scores(c, all)) {
    c.has_nan = true;
    c.count = 0;
  }
  if (c.count <= c.topk) return;
  c.threshold = from_ordered(kth_largest(all, c.topk, c.order[1], c.order[2]));
  keep_best(c);
}

// Fetches bytes [from, from + count) of the next chunk's groups.
HWY_INLINE void prefetch(const TakeArgs& a, size_t from, size_t count) {
  const size_t end = HWY_MIN(from + count, a.group_bytes);
  for (size_t byte = from; byte < end; byte += 64)
    for (const std::byte* group : a.next->group) __builtin_prefetch(group + byte);
}

void take_chunk(const TakeArgs& a) {
  const KeyChunk& chunk = *a.chunk;
  bool whole = true;  // 64 neighbours
  for (int64_t g = 0; g < kChunkGroups; ++g)
    whole &= chunk.size[g] == kKeyGroup && chunk.position[g] == chunk.position[0] + g * kKeyGroup;
  // A few lines for every row, so that they come while rows are dealt with.
  const size_t bytes_a_row = (a.group_bytes / static_cast<size_t>(a.num_rows) + 63) / 64 * 64;
  for (int64_t r = 0; r < a.num_rows; ++r) {
    if (a.next) prefetch(a, static_cast<size_t>(r) * bytes_a_row, bytes_a_row);
    Candidates& c = a.candidates[r];
    const float* scores = a.scores + r * kChunkKeys;
    const int64_t t = a.first_t + r, before = c.count;
    if (whole && chunk.position[0] + kChunkKeys <= t + 1) {
      take_all(scores, chunk.position[0], c);
    } else {
      for (int64_t g = 0; g < kChunkGroups; ++g)
        take_some(scores + g * kKeyGroup, chunk.position[g],
                  HWY_MIN(chunk.size[g], t + 1 - chunk.position[g]), c);
    }
    if (a.left_out && c.count > before) leave_out(*a.left_out, t, before, c);
    if (c.full()) cut(c);
  }
}

void merge(Candidates& into, const Candidates& later) {
  const IntTag di;
  const Floats threshold = broadcast(into.threshold);
  Tail tail(into);
  into.has_nan |= later.has_nan;
  for (int64_t i = 0; i < later.count; i += static_cast<int64_t>(kLanes)) {
    const Floats scores = load(later.scores + i);
    const Mask mask = hn::And(enters(scores, threshold), first_lanes(later.count - i));
    tail.append(scores, hn::LoadU(di, later.positions + i), mask);
  }
  into.count = tail.count;
  cut(into);
}

}  // namespace HWY_NAMESPACE
}  // namespace indexshare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace indexshare {

HWY_EXPORT(take_chunk);
HWY_EXPORT(cut);
HWY_EXPORT(merge);

CandidateKernels candidate_kernels(size_t table_index) {
  return {HWY_DISPATCH_TABLE(take_chunk)[table_index], HWY_DISPATCH_TABLE(cut)[table_index],
          HWY_DISPATCH_TABLE(merge)[table_index]};
}

}  // namespace indexshare
#endif
