// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <fstream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace indexshare {

namespace {

// The cgroup's CPU quota in cores, or 0 where there is none: v2 "cpu.max" = "<quota|max> <period>", v1 two files.
double cgroup_cpu_quota() {
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (v2 >> quota >> period && quota != "max" && period > 0) return std::stod(quota) / period;
  std::ifstream v1_quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), v1_period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  double microseconds = 0;
  if (v1_quota >> microseconds && v1_period >> period && microseconds > 0 && period > 0) return microseconds / period;
  return 0;
}

}  // namespace

int available_cores() {
  cpu_set_t set;
  int cores = static_cast<int>(std::thread::hardware_concurrency());
  if (sched_getaffinity(0, sizeof(set), &set) == 0) cores = CPU_COUNT(&set);
  const double quota = cgroup_cpu_quota();
  if (quota > 0) cores = std::min(cores, static_cast<int>(quota + 0.999));
  return std::max(cores, 1);
}

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable wake, finished;
  std::vector<std::thread> workers;
  const std::function<void(int64_t, int64_t, int)>* body = nullptr;
  int64_t count = 0, grain = 1;
  uint64_t generation = 0;  // of the current call; a worker runs each generation once
  int pending = 0;          // workers that have not finished the current generation
  bool stopping = false;
  std::exception_ptr error;
  int num_threads = 1;

  // Worker w of n takes items [count*w/n, count*(w+1)/n), n being fewer than all where the grain says so.
  void run_share(int worker) {
    const int64_t shares = std::clamp<int64_t>(count / std::max<int64_t>(grain, 1), 1, num_threads);
    if (worker >= shares) return;
    const int64_t begin = count * worker / shares, end = count * (worker + 1) / shares;
    if (begin == end) return;
    try {
      (*body)(begin, end, worker);
    } catch (...) {
      std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
  }

  void work(int worker) {
    uint64_t seen = 0;
    while (true) {
      {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return stopping || generation != seen; });
        if (stopping) return;
        seen = generation;
      }
      run_share(worker);
      std::lock_guard lock(mutex);
      if (--pending == 0) finished.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int num_threads) : state_(std::make_unique<State>()) {
  state_->num_threads = num_threads > 0 ? num_threads : available_cores();
  for (int w = 1; w < state_->num_threads; ++w) state_->workers.emplace_back([this, w] { state_->work(w); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->wake.notify_all();
  for (auto& worker : state_->workers) worker.join();
}

int ThreadPool::size() const { return state_->num_threads; }

void ThreadPool::parallel_for(int64_t count, int64_t grain,
                              const std::function<void(int64_t, int64_t, int)>& body) {
  if (count <= 0) return;
  State& s = *state_;
  if (s.num_threads == 1 || count <= grain) {
    body(0, count, 0);
    return;
  }
  {
    std::lock_guard lock(s.mutex);
    s.body = &body;
    s.count = count;
    s.grain = grain;
    s.pending = s.num_threads - 1;
    s.error = nullptr;
    ++s.generation;
  }
  s.wake.notify_all();
  s.run_share(0);
  std::unique_lock lock(s.mutex);
  s.finished.wait(lock, [&] { return s.pending == 0; });
  if (s.error) std::rethrow_exception(s.error);
}

}  // namespace indexshare
