// SPDX-License-Identifier: Apache-2.0
#include "engine/scheduler.h"

#include <algorithm>

namespace indexshare {

void Scheduler::remove(RequestId request) {
  std::erase(waiting_, request);
  std::erase(running_, request);
}

void Scheduler::admit(const std::function<bool(RequestId)>& fits) {
  while (!waiting_.empty() && std::ssize(running_) < limits_.max_running && fits(waiting_.front())) {
    running_.push_back(waiting_.front());
    waiting_.pop_front();
  }
}

std::vector<ScheduledRows> Scheduler::schedule(const std::function<WantedRows(RequestId)>& wanted) const {
  std::vector<ScheduledRows> pass;
  int64_t left = limits_.max_rows;
  // Decoding rows first, so that a long prompt never holds up those who are already answering.
  for (const bool decoding : {true, false})
    for (RequestId request : running_) {
      const WantedRows rows_wanted = wanted(request);
      if (rows_wanted.num_rows <= 0 || rows_wanted.decoding != decoding || left == 0) continue;
      const int64_t rows = std::min(rows_wanted.num_rows, left);
      pass.push_back({request, rows});
      left -= rows;
    }
  return pass;
}

}  // namespace indexshare
