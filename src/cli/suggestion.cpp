// SPDX-License-Identifier: Apache-2.0
#include "suggestion.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace indexshare::cli {
namespace {

constexpr size_t kLongestWord = 64;  // nothing longer is worth comparing

// Levenshtein's distance, with two neighbours swapped counting as one edit.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before_last, last(b.size() + 1), row(b.size() + 1);
  std::iota(last.begin(), last.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
      if (swapped) row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
    before_last = last;
    std::swap(last, row);
  }
  return last[b.size()];
}

}  // namespace

std::string suggestion(std::string_view unknown, const std::vector<std::string>& known) {
  if (unknown.size() > kLongestWord) return "";
  const std::string* best = nullptr;
  const size_t letters = unknown.size() - std::min(unknown.find_first_not_of('-'), unknown.size());
  size_t best_distance = std::min(letters / 2, std::max<size_t>(2, letters / 3)) + 1;
  for (const std::string& word : known) {
    const size_t distance = edit_distance(unknown, word);
    if (distance < best_distance) {
      best_distance = distance;
      best = &word;
    }
  }
  return best == nullptr ? "" : fmt::format(" (did you mean {}?)", *best);
}

}  // namespace indexshare::cli
