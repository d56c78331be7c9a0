// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/candidates.h"

#include <array>
#include <bit>

namespace indexshare {

namespace {

// Unsigned integers in the order of the floats; -0 becomes +0. No NaN comes here.
uint32_t ordered(float score) {
  const uint32_t bits = std::bit_cast<uint32_t>(score + 0.0f);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

float from_ordered(uint32_t key) {
  return std::bit_cast<float>(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

// Digits of the key, most significant first.
struct Digit {
  int shift;
  uint32_t size;
};
constexpr std::array kDigits = {Digit{21, 2048}, Digit{10, 2048}, Digit{0, 1024}};

// The key of the k-th largest score, and how many scores are larger: radix selection, linear whatever the
// values.
uint32_t kth_largest(const float* scores, int64_t count, int64_t k, int64_t& larger) {
  uint32_t prefix = 0, prefix_mask = 0;
  larger = 0;
  for (const Digit& digit : kDigits) {
    std::array<int32_t, 2048> histogram{};
    for (int64_t i = 0; i < count; ++i) {
      const uint32_t key = ordered(scores[i]);
      histogram[(key >> digit.shift) & (digit.size - 1)] += (key & prefix_mask) == prefix;
    }
    uint32_t value = digit.size - 1;
    while (larger + histogram[value] < k) larger += histogram[value--];
    prefix |= value << digit.shift;
    prefix_mask |= (digit.size - 1) << digit.shift;
  }
  return prefix;
}

}  // namespace

void Candidates::shrink() {
  if (count <= topk) return;
  int64_t larger;
  threshold = from_ordered(kth_largest(scores, count, topk, larger));
  selective = true;
  int64_t equals_left = topk - larger, kept = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float score = scores[i];
    const bool equal = score == threshold;
    scores[kept] = score;
    positions[kept] = positions[i];
    kept += score > threshold || (equal && equals_left > 0);
    equals_left -= equal;
  }
  count = kept;
}

}  // namespace indexshare
