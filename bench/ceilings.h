// SPDX-License-Identifier: Apache-2.0
// What the machine can do, measured in the same run as what we do: machines and neighbours vary.
#pragma once

#include <string>
#include <vector>

namespace indexshare {

class ThreadPool;

/// Wall time, or the process's own CPU time: of one thread the steadier measure on a machine shared with
/// others.
enum class Clock { wall, cpu };
double seconds(Clock clock);

enum class Arithmetic { f32, bf16_tiles, int8_tiles };

/// All threads together, per second; a multiply-add counts two.
struct Ceilings {
  double f32 = 0;  // vector FMAs
  struct Peak {    // of tiles 0 where there are none
    double zeros = 0;
    double random = 0;  // on random numbers from the first cache
  };
  Peak bf16_tiles, int8_tiles;
  struct Bandwidth {
    double working_set = 0;  // bytes
    double stream = 0;       // bytes read in order
    double rows = 0;         // bytes of 1152-byte rows read in random order, each ahead of its use
  };
  std::vector<Bandwidth> memory;  // ascending working sets; the last is far larger than the caches

  /// The nominal peak, and what is left of it on random numbers.
  Peak flops(Arithmetic arithmetic) const;
  const Bandwidth& bandwidth(double working_set) const;  // the nearest measured one that is not smaller
  std::string description() const;
};

Ceilings measure_ceilings(ThreadPool& pool, Clock clock);

}  // namespace indexshare
