// SPDX-License-Identifier: Apache-2.0
// Scheduler: who is admitted, and which rows make up the next forward pass. Pure bookkeeping, first come
// first served: everyone who decodes, then prompt chunks in order of arrival until the pass is
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
  int64_t max_running = 64;  // requests at once; what they decode in one pass must fit max_rows
};

/// What a running request still has to run: the rest of its prompt, or its last token and the drafts behind
/// it.
struct WantedRows {
  int64_t num_rows = 0;
  bool decoding = false;
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

  std::vector<ScheduledRows> schedule(const std::function<WantedRows(RequestId)>& wanted) const;

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
