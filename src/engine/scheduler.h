// SPDX-License-Identifier: Apache-2.0
// Scheduler: who is admitted, and which rows make up the next forward pass. Pure bookkeeping, first come
// first served: one row for everyone who decodes, then prompt chunks in order of arrival until the pass is
// full. A request is admitted only when the pages of its whole length are free, so nobody is ever evicted or
// stuck half-way.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "indexshare/engine.h"

namespace indexshare {

struct SchedulerLimits {
  int64_t max_rows = 512;    // of one forward pass
  int64_t max_running = 64;  // requests at once; also the most rows of logits
};

/// Rows of one request in the next forward pass.
struct ScheduledRows {
  RequestId request = 0;
  int64_t num_rows = 0;
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerLimits& limits) : limits_(limits) {}

  void enqueue(RequestId request) { waiting_.push_back(request); }
  void remove(RequestId request);  // finished or cancelled

  /// Moves waiting requests to the running ones, in order, while `fits` says so.
  void admit(const std::function<bool(RequestId)>& fits);

  /// @param rows_wanted rows a running request still has to run: its remaining prompt, or 1 when decoding.
  std::vector<ScheduledRows> schedule(const std::function<int64_t(RequestId)>& rows_wanted) const;

  const std::vector<RequestId>& running() const { return running_; }
  const std::deque<RequestId>& waiting() const { return waiting_; }
  bool idle() const { return waiting_.empty() && running_.empty(); }
  int64_t max_running() const { return limits_.max_running; }

 private:
  SchedulerLimits limits_;
  std::deque<RequestId> waiting_;
  std::vector<RequestId> running_;  // in order of admission
};

}  // namespace indexshare
