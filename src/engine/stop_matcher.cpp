// SPDX-License-Identifier: Apache-2.0
#include "engine/stop_matcher.h"

#include <algorithm>

namespace indexshare {

StopMatcher::StopMatcher(std::vector<std::string> stop_strings) : stop_strings_(std::move(stop_strings)) {}

std::string StopMatcher::push(std::string_view text) {
  if (stopped_) return {};
  held_ += text;
  size_t first_match = std::string::npos;
  for (const std::string& stop : stop_strings_) first_match = std::min(first_match, held_.find(stop));
  if (first_match != std::string::npos) {
    stopped_ = true;
    std::string shown = held_.substr(0, first_match);
    held_.clear();
    return shown;
  }
  // Hold back the longest tail that begins a stop string.
  size_t tail = 0;
  for (const std::string& stop : stop_strings_)
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > tail; --n)
      if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) {
        tail = n;
        break;
      }
  std::string shown = held_.substr(0, held_.size() - tail);
  held_.erase(0, shown.size());
  return shown;
}

std::string StopMatcher::flush() {
  std::string shown;
  shown.swap(held_);
  return stopped_ ? std::string() : shown;
}

}  // namespace indexshare
