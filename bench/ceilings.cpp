// SPDX-License-Identifier: Apache-2.0
#include "ceilings.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <iterator>
#include <vector>

#include "base/check.h"
#include "base/thread_pool.h"
#include "tile_peak.h"

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

constexpr int64_t kRowBytes = 1152;  // 576 bf16, a cached row of GLM-5.2
constexpr int kRepeats = 5;
constexpr int64_t kMebibyte = int64_t{1} << 20;
constexpr int64_t kWorkingSets[] = {4 * kMebibyte, 16 * kMebibyte, 64 * kMebibyte, 512 * kMebibyte};

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

// body(share) -> work done, once in every thread.
template <class Body>
double in_every_thread(ThreadPool& pool, const Body& body) {
  std::vector<double> done(static_cast<size_t>(pool.size()));
  pool.parallel_for(pool.size(), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) done[static_cast<size_t>(i)] = body(i);
  });
  double total = 0;
  for (double each : done) total += each;
  return total;
}

// Each thread reads its part of the memory, over and over until 256 MiB are read in all.
double stream(ThreadPool& pool, const std::byte* memory, int64_t bytes) {
  const int64_t part = bytes / pool.size() / 1024 * 1024,
                repeats = std::max<int64_t>(1, 256 * kMebibyte / bytes);
  return in_every_thread(pool, [&](int64_t thread) {
    for (int64_t n = 0; n < repeats; ++n)
      sink_of_all =
          HWY_DYNAMIC_DISPATCH(read_floats)(reinterpret_cast<const float*>(memory + part * thread), part / 4);
    return static_cast<double>(part * repeats);
  });
}

// Random rows as an attention kernel would read them: every line of a row is asked for some rows ahead.
double read_rows(ThreadPool& pool, const std::byte* memory, int64_t bytes) {
  constexpr int64_t kReads = 1 << 17, kAhead = 8;
  const auto num_rows = static_cast<uint64_t>(bytes / kRowBytes);
  return in_every_thread(pool, [&](int64_t thread) {
    const auto row_at = [&](int64_t i) {
      // Mixed, as multiples alone walk in a lattice, parts of which the second cache keeps.
      uint64_t random = static_cast<uint64_t>(thread * kReads + i + 1) * 0x9e3779b97f4a7c15u;
      random = (random ^ (random >> 30)) * 0xbf58476d1ce4e5b9u;
      return memory + (random >> 32) % num_rows * kRowBytes;
    };
    for (int64_t i = 0; i < kReads; ++i) {
      const std::byte* ahead = row_at(i + kAhead);
      for (int64_t line = 0; line < kRowBytes; line += 64) __builtin_prefetch(ahead + line);
      sink_of_all = HWY_DYNAMIC_DISPATCH(read_floats)(reinterpret_cast<const float*>(row_at(i)),
                                                      kRowBytes / 4 / 64 * 64);
    }
    return static_cast<double>(kReads * kRowBytes);
  });
}

}  // namespace

double seconds(Clock clock) {
  timespec time;
  clock_gettime(clock == Clock::wall ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

Ceilings::Peak Ceilings::flops(Arithmetic arithmetic) const {
  if (arithmetic == Arithmetic::int8_tiles && int8_tiles.zeros > 0) return int8_tiles;
  if (arithmetic == Arithmetic::bf16_tiles && bf16_tiles.zeros > 0) return bf16_tiles;
  return {f32, f32};
}

const Ceilings::Bandwidth& Ceilings::bandwidth(double working_set) const {
  for (const Bandwidth& each : memory)
    if (each.working_set >= working_set) return each;
  return memory.back();
}

std::string Ceilings::description() const {
  std::string text = fmt::format("f32 {:.0f} GFLOP/s", f32 * 1e-9);
  if (int8_tiles.zeros > 0)
    text += fmt::format(
        ", bf16 tiles {:.0f} GFLOP/s ({:.0f} on random numbers), int8 tiles {:.0f} GOP/s ({:.0f})",
        bf16_tiles.zeros * 1e-9, bf16_tiles.random * 1e-9, int8_tiles.zeros * 1e-9, int8_tiles.random * 1e-9);
  for (const Bandwidth& each : memory)
    text += fmt::format("; {:.0f} MiB: streamed {:.1f}, random rows {:.1f} GB/s",
                        each.working_set / kMebibyte, each.stream * 1e-9, each.rows * 1e-9);
  return text;
}

Ceilings measure_ceilings(ThreadPool& pool, Clock clock) {
  Ceilings ceilings;
  constexpr int64_t kSteps = 2'000'000;
  ceilings.f32 = best_rate(clock, [&] {
    return in_every_thread(pool, [&](int64_t) {
      float sink;
      const double done = HWY_DYNAMIC_DISPATCH(multiply_add)(kSteps, &sink);
      sink_of_all = sink;
      return done;
    });
  });
  const auto tiles = [&](double (*multiply)(int64_t, TileOperands), TileOperands operands) {
    return best_rate(
        clock, [&] { return in_every_thread(pool, [&](int64_t) { return multiply(kSteps, operands); }); });
  };
  ceilings.bf16_tiles = {tiles(multiply_bf16_tiles, TileOperands::zeros),
                         tiles(multiply_bf16_tiles, TileOperands::random)};
  ceilings.int8_tiles = {tiles(multiply_int8_tiles, TileOperands::zeros),
                         tiles(multiply_int8_tiles, TileOperands::random)};
  const auto largest = static_cast<size_t>(kWorkingSets[std::size(kWorkingSets) - 1]);
  void* mapped = mmap(nullptr, largest, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) fail(ErrorCode::out_of_memory, "cannot allocate {} bytes", largest);
  madvise(mapped, largest, MADV_HUGEPAGE);
  std::memset(mapped, 0, largest);
  const auto* memory = static_cast<const std::byte*>(mapped);
  for (int64_t bytes : kWorkingSets)
    ceilings.memory.push_back({static_cast<double>(bytes),
                               best_rate(clock, [&] { return stream(pool, memory, bytes); }),
                               best_rate(clock, [&] { return read_rows(pool, memory, bytes); })});
  munmap(mapped, largest);
  return ceilings;
}

}  // namespace indexshare
#endif
