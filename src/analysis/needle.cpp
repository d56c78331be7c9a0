// SPDX-License-Identifier: Apache-2.0
#include "analysis/needle.h"

#include <algorithm>

#include "indexshare/analysis.h"

namespace indexshare {

std::vector<int64_t> spread_rows(int64_t first, int64_t last, int64_t count) {
  const int64_t available = last - first + 1;
  count = std::min(count, available);
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < count; ++i)
    rows.push_back(count == 1 ? last : first + i * (available - 1) / (count - 1));
  return rows;
}

double needle_recall(std::span<const int64_t> needle, std::span<const int32_t> selection) {
  const int64_t found = std::ranges::count_if(needle, [&](int64_t position) {
    return std::ranges::binary_search(selection, static_cast<int32_t>(position));
  });
  return static_cast<double>(found) / static_cast<double>(needle.size());
}

std::vector<int64_t> find_needle(const Tokenizer& tokenizer, std::span<const int32_t> tokens,
                                 std::string_view needle) {
  std::string text;
  std::vector<size_t> ends;  // of each token's bytes
  for (const int32_t token : tokens) {
    text += tokenizer.token_bytes(token);
    ends.push_back(text.size());
  }
  const size_t begin = needle.empty() ? std::string::npos : text.rfind(needle);
  std::vector<int64_t> positions;
  if (begin == std::string::npos) return positions;
  for (size_t i = 0; i < ends.size(); ++i) {
    const size_t token_begin = i == 0 ? 0 : ends[i - 1];
    if (ends[i] > begin && token_begin < begin + needle.size()) positions.push_back(static_cast<int64_t>(i));
  }
  return positions;
}

}  // namespace indexshare
