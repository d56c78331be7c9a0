// SPDX-License-Identifier: Apache-2.0
// Which compiled version of the kernels a backend runs, chosen once when it is made.
//   amx     the kernels of vnni, and tiles where a kernel has them (*_amx.cpp, tiles.h)
//   vnni    the kernels of avx512, and integer dot products where a kernel has them (*_vnni.cpp)
//   avx512, avx2, scalar
#pragma once

#include <cstddef>
#include <string>

namespace indexshare {

struct KernelPath {
  std::string name;        // "amx", "vnni", "avx512", "avx2", "scalar", or Highway's name elsewhere
  size_t table_index = 0;  // into the tables HWY_EXPORT makes
  bool tiles = false;      // kernels of *_amx.cpp may run
  bool vnni = false;       // kernels of *_vnni.cpp may run (AVX512-VNNI)
  std::string note = {};   // why a better path of this machine is not taken; empty where none is
};

/// The best path of this machine, or `forced` ("amx" | "vnni" | "avx512" | "avx2" | "scalar"; nullptr or
/// empty = best). Where the system denies tiles to the process, the best is the next one, and `note` says so.
/// @throws Error{invalid_argument} for another name, Error{device} where machine, system or build lacks it.
KernelPath choose_kernel_path(const char* forced);

}  // namespace indexshare
