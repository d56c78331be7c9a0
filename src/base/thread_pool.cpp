// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
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

namespace {

// How long a thread looks before it sleeps: longer than the serial pieces between two parallel ones of a
// decoded token, far shorter than a time slice that others could miss.
constexpr std::chrono::microseconds kSpin{30};

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// True as soon as done() is; false after kSpin.
template <class Done>
bool spin_until(const Done& done) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return done();
}

}  // namespace

struct ThreadPool::State {
  std::mutex mutex;
  std::condition_variable wake, finished;
  std::vector<std::thread> workers;
  std::exception_ptr error;
  int num_threads = 1;
  std::atomic<bool> busy = false;  // inside parallel_for

  // The current call; written before `generation` rises, read by workers after they saw it rise.
  const std::function<void(int64_t, int64_t, int)>* body = nullptr;
  int64_t count = 0, grain = 1;
  std::atomic<uint64_t> generation = 0;  // a worker runs each generation once
  std::atomic<int> pending = 0;          // workers that have not finished the current generation
  std::atomic<bool> stopping = false;
  // Who sleeps must be woken under the mutex. Both sides order their flag before their look at the other's
  // (sequentially consistent), so that no wake-up is lost.
  std::atomic<int> sleeping_workers = 0;
  std::atomic<bool> caller_sleeps = false;

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

  void start() {
    pending = num_threads - 1;
    ++generation;
    if (sleeping_workers == 0) return;
    std::lock_guard lock(mutex);
    wake.notify_all();
  }

  void wait_until_finished() {
    const auto done = [&] { return pending == 0; };
    if (spin_until(done)) return;
    std::unique_lock lock(mutex);
    caller_sleeps = true;
    finished.wait(lock, done);
    caller_sleeps = false;
  }

  void wait_for_work(uint64_t seen) {
    const auto there_is_some = [&] { return stopping || generation != seen; };
    if (spin_until(there_is_some)) return;
    std::unique_lock lock(mutex);
    ++sleeping_workers;
    wake.wait(lock, there_is_some);
    --sleeping_workers;
  }

  void work(int worker) {
    for (uint64_t seen = 0;; ++seen) {
      wait_for_work(seen);
      if (stopping) return;
      run_share(worker);
      if (--pending > 0 || !caller_sleeps) continue;
      std::lock_guard lock(mutex);
      finished.notify_one();
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
  s.body = &body;
  s.count = count;
  s.grain = grain;
  s.error = nullptr;
  s.start();
  s.run_share(0);
  s.wait_until_finished();
  if (s.error) std::rethrow_exception(s.error);
}

}  // namespace indexshare
