// SPDX-License-Identifier: Apache-2.0
// A fixed set of workers that split an index range statically: item i always goes to the same worker for a
// given worker count, and no result may depend on that count. Between calls workers look for work for some
// microseconds and then sleep: a token is made of hundreds of short calls, which sleeping at once would
// stretch, while longer spinning would steal time from neighbours on shared cores.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace indexshare {

/// Cores this process may use: CPU affinity limited by the cgroup's CPU quota, at least 1.
int available_cores();

class ThreadPool {
 public:
  /// @param num_threads workers including the calling thread; 0 = available_cores().
  explicit ThreadPool(int num_threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  /// Calls body(begin, end, worker) on disjoint ranges that cover [0, count); returns when all are done.
  /// Ranges are contiguous and at least `grain` long where possible. The first exception thrown by a body is
  /// rethrown. One call at a time: a nested or a concurrent one throws Error{internal}.
  void parallel_for(int64_t count, int64_t grain,
                    const std::function<void(int64_t begin, int64_t end, int worker)>& body);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace indexshare
