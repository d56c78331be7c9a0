// SPDX-License-Identifier: Apache-2.0
#include "analysis/overlap.h"

#include <algorithm>
#include <map>

namespace indexshare {

int64_t count_common(std::span<const int32_t> a, std::span<const int32_t> b) {
  int64_t common = 0;
  for (size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    common += a[i] == b[j];
    const bool advance_a = a[i] <= b[j], advance_b = b[j] <= a[i];
    i += advance_a;
    j += advance_b;
  }
  return common;
}

Overlap overlap_of(std::span<const int32_t> a, std::span<const int32_t> b) {
  if (a.empty() && b.empty()) return {1, 1};
  const int64_t common = count_common(a, b), size_a = std::ssize(a), size_b = std::ssize(b);
  return {.share = static_cast<double>(common) / static_cast<double>(std::max(size_a, size_b)),
          .jaccard = static_cast<double>(common) / static_cast<double>(size_a + size_b - common)};
}

std::vector<std::vector<Overlap>> overlap_matrix(std::span<const std::vector<Selection>> selections,
                                                 std::span<const int> layers) {
  const size_t n = layers.size();
  std::vector matrix(n, std::vector<Overlap>(n));
  const double weight = 1.0 / static_cast<double>(selections.size());
  for (size_t i = 0; i < n; ++i) {
    matrix[i][i] = {1, 1};
    for (size_t j = 0; j < i; ++j) {
      Overlap& mean = matrix[i][j];
      for (const auto& row : selections) {
        const Overlap overlap = overlap_of(row[layers[i]], row[layers[j]]);
        mean.share += overlap.share * weight;
        mean.jaccard += overlap.jaccard * weight;
      }
      matrix[j][i] = mean;
    }
  }
  return matrix;
}

std::vector<DistanceOverlap> overlap_by_distance(const std::vector<std::vector<Overlap>>& matrix,
                                                 std::span<const int> layers) {
  std::map<int, DistanceOverlap> distances;
  for (size_t i = 0; i < layers.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      const int distance = layers[i] - layers[j];
      const Overlap& pair = matrix[i][j];
      auto [it, is_new] =
          distances.try_emplace(distance, DistanceOverlap{distance, 0, {}, pair.share, pair.share});
      DistanceOverlap& d = it->second;
      ++d.num_pairs;
      d.mean.share += pair.share;
      d.mean.jaccard += pair.jaccard;
      d.lowest = std::min(d.lowest, pair.share);
      d.highest = std::max(d.highest, pair.share);
    }
  std::vector<DistanceOverlap> result;
  for (auto& [distance, d] : distances) {
    d.mean.share /= d.num_pairs;
    d.mean.jaccard /= d.num_pairs;
    result.push_back(d);
  }
  return result;
}

}  // namespace indexshare
