// SPDX-License-Identifier: Apache-2.0
// StopMatcher: lets text through as it is generated, but never the beginning of a stop string: what could
// still become one is held back until it is decided.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace indexshare {

class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stop_strings);

  /// @return the text that may be shown now. After a match stopped() holds and nothing more comes.
  std::string push(std::string_view text);
  std::string flush();  // the end of generation: what was held back after all
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stop_strings_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace indexshare
