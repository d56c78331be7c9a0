// SPDX-License-Identifier: Apache-2.0
#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "indexshare/error.h"

namespace indexshare {
namespace {

struct Range {
  int64_t begin, end;
  int worker;
};

std::vector<Range> ranges_of(ThreadPool& pool, int64_t count, int64_t grain) {
  std::mutex mutex;
  std::vector<Range> ranges;
  pool.parallel_for(count, grain, [&](int64_t begin, int64_t end, int worker) {
    std::lock_guard lock(mutex);
    ranges.push_back({begin, end, worker});
  });
  return ranges;
}

TEST(ThreadPool, EveryItemExactlyOnce) {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.size(), threads);
    for (int64_t count : {0, 1, 2, 3, 7, 8, 9, 100, 1001})
      for (int64_t grain : {0, 1, 2, 5, 64, 5000}) {
        std::vector<int> visits(count, 0);
        std::vector<bool> workers(threads, false);
        for (const Range& range : ranges_of(pool, count, grain)) {
          ASSERT_LT(range.begin, range.end);
          ASSERT_TRUE(range.worker >= 0 && range.worker < threads);
          ASSERT_FALSE(workers[range.worker]) << "one range a worker";
          workers[range.worker] = true;
          ASSERT_TRUE(range.end - range.begin >= grain || range.end - range.begin == count)
              << count << " by " << grain;
          for (int64_t i = range.begin; i < range.end; ++i) ++visits[i];
        }
        ASSERT_EQ(visits, std::vector<int>(count, 1))
            << count << " items, grain " << grain << ", " << threads;
      }
  }
}

TEST(ThreadPool, ItemsStayWithTheirWorker) {
  ThreadPool pool(3);
  std::vector<int> first(100), second(100);
  for (auto* owner : {&first, &second})
    for (const Range& range : ranges_of(pool, 100, 1))
      for (int64_t i = range.begin; i < range.end; ++i) (*owner)[i] = range.worker;
  EXPECT_EQ(first, second);
  EXPECT_EQ(first[99], 2) << "all workers take part";
}

TEST(ThreadPool, ExceptionsArriveAndThePoolGoesOn) {
  for (int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    for (int64_t bad : {0, 99}) {  // the caller's own share and the last worker's
      try {
        pool.parallel_for(100, 1, [&](int64_t begin, int64_t end, int) {
          if (begin <= bad && bad < end) throw std::runtime_error("item " + std::to_string(bad));
        });
        FAIL() << "nothing thrown";
      } catch (const std::runtime_error& error) {
        EXPECT_EQ(error.what(), "item " + std::to_string(bad));
      }
      EXPECT_EQ(static_cast<int>(ranges_of(pool, 100, 1).size()), threads) << "an old error came back";
    }
    EXPECT_THROW(pool.parallel_for(100, 1, [](int64_t, int64_t, int) { throw 1; }), int);
  }
}

// Other workers still use what the body captured: the call returns only when all have finished.
TEST(ThreadPool, ThrowingDoesNotReturnEarly) {
  ThreadPool pool(4);
  for (int round = 0; round < 200; ++round) {
    std::atomic<int> running = 0;
    try {
      pool.parallel_for(4, 1, [&](int64_t begin, int64_t, int) {
        ++running;
        if (begin == 0) {
          --running;
          throw 1;
        }
        for (int spin = 0; spin < 100; ++spin) std::this_thread::yield();
        --running;
      });
      FAIL();
    } catch (int) {
    }
    ASSERT_EQ(running, 0);
  }
}

TEST(ThreadPool, NestedCallsAreOurMistake) {
  for (int threads : {1, 2}) {
    ThreadPool pool(threads);
    try {
      pool.parallel_for(
          10, 1, [&](int64_t, int64_t, int) { pool.parallel_for(10, 1, [](int64_t, int64_t, int) {}); });
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::internal);
    }
    EXPECT_EQ(static_cast<int>(ranges_of(pool, 10, 1).size()), threads);
  }
}

TEST(ThreadPool, ManyShortCalls) {
  ThreadPool pool(4);
  std::vector<int64_t> sums(4);
  int64_t expected = 0;
  for (int64_t call = 0; call < 5000; ++call) {
    const int64_t count = call % 17;
    expected += count * (count - 1) / 2;
    pool.parallel_for(count, 1, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t i = begin; i < end; ++i) sums[worker] += i;  // unguarded: a worker's slot is its own
    });
  }
  EXPECT_EQ(std::accumulate(sums.begin(), sums.end(), int64_t{0}), expected);
}

TEST(ThreadPool, MadeAndDestroyedWithoutWork) {
  for (int i = 0; i < 50; ++i) ThreadPool pool(3);
}

TEST(ThreadPool, DefaultIsWhatTheProcessMayUse) {
  EXPECT_GE(available_cores(), 1);
  EXPECT_EQ(ThreadPool(0).size(), available_cores());
}

}  // namespace
}  // namespace indexshare
