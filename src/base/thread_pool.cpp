// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <fstream>
#include <limits>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "base/check.h"

namespace indexshare {

namespace {

constexpr double kNoQuota = std::numeric_limits<double>::infinity();

// "<quota> <period>" of a cgroup v2 cpu.max file in cores; infinite where it says "max" or is not there.
double cpu_max(const std::string& path) {
  std::ifstream file(path);
  double quota = 0, period = 0;  // "max" is no number
  return file >> quota >> period && quota > 0 && period > 0 ? quota / period : kNoQuota;
}

// The CPU quota in cores over the process's own cgroup and those above it.
double cgroup_cpu_quota() {
  double cores = cpu_max("/sys/fs/cgroup/cpu.max");
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (line.rfind("0::/", 0) != 0) continue;  // v2
    for (std::string group = line.substr(3); group.size() > 1; group.resize(group.rfind('/')))
      cores = std::min(cores, cpu_max("/sys/fs/cgroup" + group + "/cpu.max"));
  }
  std::ifstream v1_quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  std::ifstream v1_period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  double quota = 0, period = 0;
  if (v1_quota >> quota && v1_period >> period && quota > 0 && period > 0)
    cores = std::min(cores, quota / period);
  return cores;
}

}  // namespace

int available_cores() {
  cpu_set_t set;
  int cores = static_cast<int>(std::thread::hardware_concurrency());
  if (sched_getaffinity(0, sizeof(set), &set) == 0) cores = CPU_COUNT(&set);
  const double quota = cgroup_cpu_quota();
  if (quota < cores) cores = static_cast<int>(std::ceil(quota));
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
  std::atomic<bool> busy = false;  // inside parallel_for

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

  void stop() {
    {
      std::lock_guard lock(mutex);
      stopping = true;
    }
    wake.notify_all();
    for (auto& worker : workers) worker.join();
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
  State& s = *state_;
  s.num_threads = num_threads > 0 ? num_threads : available_cores();
  for (int w = 1; w < s.num_threads; ++w) try {
      s.workers.emplace_back([&s, w] { s.work(w); });
    } catch (const std::system_error&) {
      s.stop();
      fail(ErrorCode::invalid_argument,
           "threads: expected at most {}, which is what the system lets us start, found {}", w,
           s.num_threads);
    }
}

ThreadPool::~ThreadPool() { state_->stop(); }

namespace {
struct NotBusyOnReturn {
  std::atomic<bool>& busy;
  ~NotBusyOnReturn() { busy = false; }
};
}  // namespace

int ThreadPool::size() const { return state_->num_threads; }

void ThreadPool::parallel_for(int64_t count, int64_t grain,
                              const std::function<void(int64_t, int64_t, int)>& body) {
  if (count <= 0) return;
  State& s = *state_;
  ENSURE(!s.busy.exchange(true), "parallel_for inside or beside another of the same pool");
  const NotBusyOnReturn not_busy{s.busy};
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
