// SPDX-License-Identifier: Apache-2.0
// x += y; elements are shared out among threads. The compiler vectorises it, and memory is the limit anyway.
#include "backend/cpu/cpu_backend.h"

namespace indexshare {

void CpuBackend::add(const AddArgs& args) {
  parallel(args.count, 1 << 17, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) args.x[i] += args.y[i];
  });
}

}  // namespace indexshare
