// SPDX-License-Identifier: Apache-2.0
// A progress bar on stderr: drawn on a terminal only, at most ten times a second, wiped when done.
#pragma once

#include <cstdint>
#include <string>

#include "indexshare/options.h"
#include "terminal.h"

namespace indexshare::cli {

enum class ProgressUnit { count, bytes };

class ProgressBar {
 public:
  /// @param wanted false for --quiet and --json: nothing is drawn.
  ProgressBar(std::string label, bool wanted, ProgressUnit unit = ProgressUnit::count);
  ~ProgressBar() { wipe(); }
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  void update(int64_t done, int64_t total);
  void wipe();
  Progress callback() {
    return [this](int64_t done, int64_t total) { update(done, total); };
  }

 private:
  std::string line(int64_t done, int64_t total) const;

  std::string label_;
  bool drawn_on_;
  ProgressUnit unit_;
  Stopwatch watch_;
  double last_drawn_ = -1;
  size_t width_ = 0;  // of what stands on the line now
};

}  // namespace indexshare::cli
