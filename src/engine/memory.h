// SPDX-License-Identifier: Apache-2.0
// How much memory this process may still take: the machine's available memory limited by the cgroup's.
#pragma once

#include <cstddef>

namespace indexshare {

/// Bytes; the largest size_t where nothing can be learnt.
size_t available_memory_bytes();

}  // namespace indexshare
