// SPDX-License-Identifier: Apache-2.0
// Which compiled version of the kernels a backend runs, chosen once when it is made.
#pragma once

#include <cstddef>
#include <string>

namespace indexshare {

struct KernelPath {
  std::string name;        // "avx512", "avx2", "scalar", or Highway's name elsewhere
  size_t table_index = 0;  // into the tables HWY_EXPORT makes
};

/// The best path of this machine, or `forced` ("avx512" | "avx2" | "scalar"; nullptr or empty = best).
/// @throws Error{invalid_argument} for another name, Error{device} where the machine or the build lacks it.
KernelPath choose_kernel_path(const char* forced);

}  // namespace indexshare
