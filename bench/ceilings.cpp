// SPDX-License-Identifier: Apache-2.0
#include "ceilings.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <vector>

#include "base/thread_pool.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ceilings.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace indexshare {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using FloatTag = hn::CappedTag<float, 16>;

// Twelve independent chains of FMAs; returns the number of floating-point operations.
double multiply_add(int64_t steps, float* sink) {
  const FloatTag d;
  const auto scale = hn::Set(d, 0.999f), shift = hn::Set(d, 0.001f);
  const auto start = hn::Iota(d, 1.0f);  // chains must differ or the compiler keeps one
  const auto at = [&](float offset) { return hn::Add(start, hn::Set(d, offset)); };
  auto a = at(0), b = at(1), c = at(2), e = at(3), f = at(4), g = at(5), h = at(6), i = at(7), j = at(8),
       k = at(9), l = at(10), m = at(11);
  for (int64_t n = 0; n < steps; ++n) {
    a = hn::MulAdd(a, scale, shift), b = hn::MulAdd(b, scale, shift), c = hn::MulAdd(c, scale, shift);
    e = hn::MulAdd(e, scale, shift), f = hn::MulAdd(f, scale, shift), g = hn::MulAdd(g, scale, shift);
    h = hn::MulAdd(h, scale, shift), i = hn::MulAdd(i, scale, shift), j = hn::MulAdd(j, scale, shift);
    k = hn::MulAdd(k, scale, shift), l = hn::MulAdd(l, scale, shift), m = hn::MulAdd(m, scale, shift);
  }
  const auto sum =
      hn::Add(hn::Add(hn::Add(a, b), hn::Add(c, e)),
              hn::Add(hn::Add(hn::Add(f, g), hn::Add(h, i)), hn::Add(hn::Add(j, k), hn::Add(l, m))));
  float lanes[16];
  hn::StoreU(sum, d, lanes);
  *sink = lanes[0];
  return static_cast<double>(steps) * 12 * 2 * static_cast<double>(hn::Lanes(d));
}

// Reads [0, count) floats, count a multiple of 64.
float read_floats(const float* from, int64_t count) {
  const FloatTag d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto a = hn::Zero(d), b = a, c = a, e = a;
  for (int64_t i = 0; i < count; i += 4 * lanes) {
    a = hn::Add(a, hn::LoadU(d, from + i)), b = hn::Add(b, hn::LoadU(d, from + i + lanes));
    c = hn::Add(c, hn::LoadU(d, from + i + 2 * lanes)), e = hn::Add(e, hn::LoadU(d, from + i + 3 * lanes));
  }
  float sum[16];
  hn::StoreU(hn::Add(hn::Add(a, b), hn::Add(c, e)), d, sum);
  return sum[0];
}

}  // namespace HWY_NAMESPACE
}  // namespace indexshare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace indexshare {

HWY_EXPORT(multiply_add);
HWY_EXPORT(read_floats);

namespace {

constexpr int64_t kFloats = int64_t{1} << 27;  // 512 MiB
constexpr int64_t kRowFloats =
    1152 / 4 / 64 * 64 + 64;  // 1280 bytes: a row of 576 bf16 and the lines it shares
constexpr int kRepeats = 5;

volatile float sink_of_all;

// The best of some repeats of what `run` does per second; `run` returns how much it did.
template <class Run>
double best_rate(Clock clock, const Run& run) {
  double best = 0;
  for (int n = 0; n < kRepeats; ++n) {
    const double start = seconds(clock);
    const double done = run();
    best = std::max(best, done / (seconds(clock) - start));
  }
  return best;
}

double stream(ThreadPool& pool, const float* memory, int64_t threads) {
  pool.parallel_for(threads, 1, [&](int64_t begin, int64_t end, int) {
    const int64_t from = kFloats * begin / threads / 64 * 64, to = kFloats * end / threads / 64 * 64;
    sink_of_all = HWY_DYNAMIC_DISPATCH(read_floats)(memory + from, to - from);
  });
  return static_cast<double>(kFloats) * sizeof(float);
}

double read_rows(ThreadPool& pool, const float* memory, const std::vector<int32_t>& order) {
  pool.parallel_for(static_cast<int64_t>(order.size()), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i)
      sink_of_all =
          HWY_DYNAMIC_DISPATCH(read_floats)(memory + order[static_cast<size_t>(i)] * kRowFloats, kRowFloats);
  });
  return static_cast<double>(order.size()) * kRowFloats * sizeof(float);
}

}  // namespace

double seconds(Clock clock) {
  timespec time;
  clock_gettime(clock == Clock::wall ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

Ceilings measure_ceilings(ThreadPool& pool, Clock clock) {
  Ceilings ceilings;
  const int64_t threads = pool.size();
  constexpr int64_t kSteps = 4'000'000;
  ceilings.flops = best_rate(clock, [&] {
    std::vector<double> done(static_cast<size_t>(threads));
    pool.parallel_for(threads, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        float sink;
        done[static_cast<size_t>(i)] = HWY_DYNAMIC_DISPATCH(multiply_add)(kSteps, &sink);
        sink_of_all = sink;
      }
    });
    double total = 0;
    for (double each : done) total += each;
    return total;
  });
  void* mapped =
      mmap(nullptr, kFloats * sizeof(float), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return ceilings;
  madvise(mapped, kFloats * sizeof(float), MADV_HUGEPAGE);
  auto* memory = static_cast<float*>(mapped);
  for (int64_t i = 0; i < kFloats; ++i) memory[i] = 1.0f;
  ceilings.stream_bytes_one = best_rate(clock, [&] { return stream(pool, memory, 1); });
  ceilings.stream_bytes = best_rate(clock, [&] { return stream(pool, memory, threads); });
  std::vector<int32_t> order(static_cast<size_t>(kFloats / kRowFloats));
  uint64_t state = 1;
  for (int32_t& row : order) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    row = static_cast<int32_t>((state >> 33) % order.size());
  }
  ceilings.row_bytes = best_rate(clock, [&] { return read_rows(pool, memory, order); });
  munmap(mapped, kFloats * sizeof(float));
  return ceilings;
}

}  // namespace indexshare
#endif
