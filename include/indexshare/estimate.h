// SPDX-License-Identifier: Apache-2.0
// Mean and standard error of a stream of values (Welford).
#pragma once

#include <cmath>
#include <cstdint>

namespace indexshare {

struct Estimate {
  double mean = 0, standard_error = 0;  // as if values were independent
};

class RunningEstimate {
 public:
  void add(double value) {
    ++count_;
    const double delta = value - mean_;
    mean_ += delta / static_cast<double>(count_);
    squares_ += delta * (value - mean_);
  }
  int64_t count() const { return count_; }
  double mean() const { return mean_; }
  double standard_error() const {
    if (count_ < 2) return 0;
    const auto n = static_cast<double>(count_);
    return std::sqrt(squares_ / (n - 1) / n);
  }
  Estimate get() const { return {mean_, standard_error()}; }

 private:
  int64_t count_ = 0;
  double mean_ = 0, squares_ = 0;
};

}  // namespace indexshare
