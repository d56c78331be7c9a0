// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/candidates.h"

#include <bit>
#include <cmath>
#include <cstring>
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

// The first n lanes of those in the mask.
HWY_INLINE Mask first_of(Mask mask, int64_t n) {
  float lanes[kLanes];
  store(hn::IfThenElseZero(mask, broadcast(1.0f)), lanes);
  for (float& lane : lanes) {
    if (n <= 0) lane = 0;
    n -= lane != 0;
  }
  return hn::Ne(load(lanes), hn::Zero(FloatTag()));
}

// What may still matter: neither below nor equal to the threshold; true for NaN.
HWY_INLINE Mask enters(Floats scores, Floats threshold) { return hn::Not(hn::Le(scores, threshold)); }

/// Where candidates are appended.
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

// The bits of the first n keys of a group.
HWY_INLINE uint64_t first_bits(int64_t n) {
  return (uint64_t{1} << HWY_MAX(HWY_MIN(n, kKeyGroup), int64_t{0})) - 1;
}

constexpr int64_t kWordGroups = 4;  // whose bits fill a word

// The bits of the keys of four groups that exist and that position t sees.
HWY_INLINE uint64_t visible(const KeyChunk& chunk, int64_t group, int64_t t) {
  uint64_t bits = 0;
  for (int64_t g = 0; g < kWordGroups; ++g)
    bits |= first_bits(HWY_MIN(chunk.size[group + g], t + 1 - chunk.position[group + g])) << (g * kKeyGroup);
  return bits;
}

// Four keys at a time and without asking whether there are four: there mostly are fewer, how many is hard to
// foresee, and what is stored in excess, the 65th key of a word, is stored over.
void append_passing(const float* scores, const int32_t* positions, const ChunkBits& passing, Candidates& c) {
  for (uint64_t bits : passing) {
    float* to_scores = c.scores + c.count;
    int32_t* to_positions = c.positions + c.count;
    const int64_t count = std::popcount(bits);
    c.count += count;
    for (int64_t i = 0; i < count; i += 4)
      for (int64_t k = i; k < i + 4; ++k) {
        const int key = std::countr_zero(bits);
        to_scores[k] = scores[key];
        to_positions[k] = positions[key];
        bits &= bits - 1;
      }
    scores += 64;
    positions += 64;
  }
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

HWY_INLINE int32_t ordered(float score) {
  score += 0.0f;
  int32_t bits;
  __builtin_memcpy(&bits, &score, sizeof bits);
  return bits ^ ((bits >> 31) & 0x7fffffff);
}

HWY_INLINE float from_ordered(int32_t key) {
  const int32_t bits = key ^ ((key >> 31) & 0x7fffffff);
  float score;
  __builtin_memcpy(&score, &bits, sizeof score);
  return score;
}

/// What the scores of all candidates (at least one) lie between.
struct Range {
  float low, high;
  bool has_nan;  // low and high then mean nothing
};

HWY_INLINE Range range_of(const Candidates& c) {
  const FloatTag d;
  const Floats any = broadcast(c.scores[0]);
  Floats low = any, high = any;
  Mask ordinary = hn::Eq(any, any);
  for (int64_t i = 0; i < c.count; i += static_cast<int64_t>(kLanes)) {
    const Floats scores = hn::IfThenElse(first_lanes(c.count - i), load(c.scores + i), any);
    ordinary = hn::And(ordinary, hn::Eq(scores, scores));
    low = hn::Min(low, scores);
    high = hn::Max(high, scores);
  }
  return {hn::GetLane(hn::MinOfLanes(d, low)), hn::GetLane(hn::MaxOfLanes(d, high)),
          !hn::AllTrue(d, ordinary)};
}

/// Two parts of a set of keys, at least and below a limit; vectors reach beyond their ends.
struct Parts {
  int32_t *upper, *lower;
  int64_t num_upper = 0, num_lower = 0;

  HWY_INLINE void add(Ints keys, Ints limit, Mask valid_lanes) {
    const IntTag d;
    const auto valid = hn::RebindMask(d, valid_lanes), is_lower = hn::Lt(keys, limit);
    const auto to_upper = hn::And(valid, hn::Not(is_lower)), to_lower = hn::And(valid, is_lower);
    hn::StoreU(hn::Compress(keys, to_upper), d, upper + num_upper);
    hn::StoreU(hn::Compress(keys, to_lower), d, lower + num_lower);
    num_upper += static_cast<int64_t>(hn::CountTrue(d, to_upper));
    num_lower += static_cast<int64_t>(hn::CountTrue(d, to_lower));
  }
};

// About the k-th largest of `count` keys: that of a sample.
template <class KeyAt>
HWY_INLINE int32_t guess_kth_largest(const KeyAt& key_at, int64_t count, int64_t k) {
  constexpr int64_t kSample = 15;
  int32_t sorted[kSample];
  for (int64_t i = 0; i < kSample; ++i) {
    const int32_t key = key_at(count * i / kSample);
    int64_t place = i;
    for (; place > 0 && sorted[place - 1] < key; --place) sorted[place] = sorted[place - 1];
    sorted[place] = key;
  }
  return sorted[HWY_MIN(k * kSample / count, kSample - 1)];
}

/// The lowest score that stays, as a key, and how many of those equal to it stay.
struct Limit {
  int32_t key;
  int64_t equals;
};

// The k-th largest score (k from 1): the keys are split at guesses first, then at the middle of the interval
// that is left, and the part that the k-th lies in is split again. (Not in place, where a load would often
// wait for the store before it, which it overlaps in part.)
HWY_INLINE Limit kth_largest(const Candidates& c, const Range& range, int64_t k) {
  constexpr int kGuesses = 3;
  const auto lanes = static_cast<int64_t>(kLanes);
  int32_t low = ordered(range.low), high = ordered(range.high);
  if (low == high) return {low, k};
  int32_t middle = guess_kth_largest([&](int64_t i) { return ordered(c.scores[i]); }, c.count, k);
  middle = HWY_MAX(middle, low + 1);
  Parts parts{c.order[0], c.order[1]};
  for (int64_t i = 0; i < c.count; i += lanes)
    parts.add(ordered(load(c.scores + i)), hn::Set(IntTag(), middle), first_lanes(c.count - i));
  int32_t* spare = c.order[2];
  for (int round = 1;; ++round) {
    int32_t* keys = parts.upper;
    int64_t count = parts.num_upper;
    if (count >= k) {
      low = middle;
      std::swap(parts.upper, spare);
    } else {
      k -= count;
      high = middle - 1;
      keys = parts.lower;
      count = parts.num_lower;
      std::swap(parts.lower, spare);
    }
    if (low == high) return {low, k};
    const auto half = static_cast<int32_t>(high - (static_cast<int64_t>(high) - low) / 2);
    const auto key_at = [&](int64_t i) { return keys[i]; };
    middle = round < kGuesses ? HWY_MAX(guess_kth_largest(key_at, count, k), low + 1) : half;
    parts.num_upper = parts.num_lower = 0;
    for (int64_t i = 0; i < count; i += lanes)
      parts.add(hn::LoadU(IntTag(), keys + i), hn::Set(IntTag(), middle), first_lanes(count - i));
  }
}

// Keeps the scores above the threshold and the first of those equal to it.
HWY_INLINE void keep_best(Candidates& c, int64_t equals) {
  const IntTag di;
  const FloatTag d;
  const Floats threshold = broadcast(c.threshold);
  Tail kept(c);
  kept.count = 0;
  for (int64_t i = 0; i < c.count; i += static_cast<int64_t>(kLanes)) {
    const Floats scores = load(c.scores + i);
    const Ints positions = hn::LoadU(di, c.positions + i);
    const Mask valid = first_lanes(c.count - i), equal = hn::And(hn::Eq(scores, threshold), valid);
    Mask keep = hn::And(hn::Gt(scores, threshold), valid);
    if (!hn::AllFalse(d, equal)) {
      const auto found = static_cast<int64_t>(hn::CountTrue(d, equal));
      keep = hn::Or(keep, found <= equals ? equal : first_of(equal, equals));
      equals = HWY_MAX(equals - found, int64_t{0});
    }
    kept.append(scores, positions, keep);
  }
  c.count = kept.count;
}

// Keeps the topk best, still in ascending position; none of a row with a NaN.
HWY_NOINLINE void cut(Candidates& c) {
  if (c.count == 0) return;
  const Range range = range_of(c);
  if (range.has_nan) {
    c.has_nan = true;
    c.count = 0;
  }
  if (c.count <= c.topk) return;
  const Limit limit = kth_largest(c, range, c.topk);
  c.threshold = from_ordered(limit.key);
  keep_best(c, limit.equals);
}

// Forgets a sample but for a threshold that `rank` of it pass. That of rank `rank` itself passes too: where
// all scores are equal, a threshold of that score would let nothing enter.
void guess(Candidates& c, int64_t rank) {
  if (c.count >= rank) {
    const Range range = range_of(c);
    c.has_nan |= range.has_nan;
    if (!range.has_nan)
      c.threshold = std::nextafter(from_ordered(kth_largest(c, range, rank).key), -INFINITY);
  }
  c.count = 0;
}

void take_chunk(const TakeArgs& a) {
  const KeyChunk& chunk = *a.chunk;
  bool all_visible = true;  // to all rows
  int32_t positions[kChunkKeys + 1] = {};
  for (int64_t g = 0; g < kChunkGroups; ++g) {
    for (int64_t i = 0; i < kKeyGroup; ++i)
      positions[g * kKeyGroup + i] = static_cast<int32_t>(chunk.position[g] + i);
    all_visible &= chunk.size[g] == kKeyGroup && chunk.position[g] + kKeyGroup <= a.first_t + 1;
  }
  for (int64_t r = 0; r < a.num_rows; ++r) {
    Candidates& c = a.candidates[r];
    const int64_t t = a.first_t + r, before = c.count;
    ChunkBits passing;
    std::memcpy(passing.data(), a.passes + r * kChunkGroups, sizeof passing);
    if (!all_visible)
      for (int64_t g = 0; g < kChunkGroups; g += kWordGroups)
        passing[static_cast<size_t>(g / kWordGroups)] &= visible(chunk, g, t);
    a.append(a.scores + r * kChunkKeys, positions, passing, c);
    // The tail leaves the caches until the row's turn comes again; what it will reach then may be far off.
    __builtin_prefetch(c.scores + c.count + 16, 1);
    __builtin_prefetch(c.positions + c.count + 16, 1);
    if (a.left_out && c.count > before) leave_out(*a.left_out, t, before, c);
    if (c.full()) {
      cut(c);
      a.thresholds[r] = c.threshold;
    }
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

HWY_EXPORT(append_passing);
HWY_EXPORT(take_chunk);
HWY_EXPORT(cut);
HWY_EXPORT(guess);
HWY_EXPORT(merge);

CandidateKernels candidate_kernels(size_t table_index) {
  return {HWY_DISPATCH_TABLE(append_passing)[table_index], HWY_DISPATCH_TABLE(take_chunk)[table_index],
          HWY_DISPATCH_TABLE(cut)[table_index], HWY_DISPATCH_TABLE(guess)[table_index],
          HWY_DISPATCH_TABLE(merge)[table_index]};
}

}  // namespace indexshare
#endif
