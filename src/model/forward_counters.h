// SPDX-License-Identifier: Apache-2.0
// ForwardCounters: the operations the forward pass asked of the backend, counted where it asks (a
// multiply-add is two FLOPs), and the time they took. The counts are held against the closed form of
// analysis/flops.h by a test.
#pragma once

#include <chrono>
#include <cstdint>

namespace indexshare {

struct ForwardCounters {
  uint64_t tokens = 0, forward_passes = 0, indexer_passes = 0;
  uint64_t projections = 0, indexer_projections = 0, index_scores = 0, attention = 0, mlp = 0,
           head = 0;  // FLOPs
  struct Seconds {
    double projections = 0, indexer_projections = 0, index_selection = 0, attention = 0, mlp = 0, head = 0,
           forward = 0;  // forward: all of the forward passes, without the head
  } seconds;
};

/// Adds the time of its life to `seconds`.
class Timed {
 public:
  explicit Timed(double& seconds) : seconds_(seconds), begin_(std::chrono::steady_clock::now()) {}
  ~Timed() { seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count(); }
  Timed(const Timed&) = delete;
  Timed& operator=(const Timed&) = delete;

 private:
  double& seconds_;
  std::chrono::steady_clock::time_point begin_;
};

}  // namespace indexshare
