// SPDX-License-Identifier: Apache-2.0
// What the machine can do, measured in the same run as what we do: machines and neighbours vary.
#pragma once

namespace indexshare {

class ThreadPool;

/// Wall time, or the process's own CPU time: of one thread the steadier measure on a machine shared with
/// others.
enum class Clock { wall, cpu };
double seconds(Clock clock);

struct Ceilings {
  double flops = 0;             // f32 multiply-adds count two, all threads, per second
  double stream_bytes_one = 0;  // sequential reads of memory far larger than the caches, one thread
  double stream_bytes = 0;      // all threads
  double row_bytes = 0;         // reads of 1152-byte rows in random order, all threads
};

Ceilings measure_ceilings(ThreadPool& pool, Clock clock);

}  // namespace indexshare
