// SPDX-License-Identifier: Apache-2.0
#include "analysis/coverage.h"

#include <algorithm>
#include <numeric>

namespace indexshare {

Coverage coverage_of(const AttentionRow& row, std::span<const int32_t> selection) {
  Coverage coverage{.mean = 0, .worst = 1};
  for (int64_t h = 0; h < row.heads(); ++h) {
    const std::span<const float> p = row.head(h);
    double covered = 0;
    for (const int32_t position : selection) covered += p[position];
    covered = std::min(covered, 1.0);  // the probabilities are rounded
    coverage.mean += covered / static_cast<double>(row.heads());
    coverage.worst = std::min(coverage.worst, covered);
  }
  return coverage;
}

Selection oracle_selection(const AttentionRow& row, int64_t size) {
  std::vector<double> mass(static_cast<size_t>(row.visible));
  for (int64_t h = 0; h < row.heads(); ++h)
    for (int64_t s = 0; s < row.visible; ++s) mass[s] += row.head(h)[s];
  Selection order(static_cast<size_t>(row.visible));
  std::iota(order.begin(), order.end(), 0);
  const auto end = order.begin() + std::min(size, row.visible);
  std::ranges::nth_element(
      order, end, [&](int32_t a, int32_t b) { return mass[a] != mass[b] ? mass[a] > mass[b] : a < b; });
  order.erase(end, order.end());
  std::ranges::sort(order);
  return order;
}

}  // namespace indexshare
