// SPDX-License-Identifier: Apache-2.0
// y = gate / (1 + exp(-gate)) * up, element by element; elements are shared out among threads.
#include <algorithm>

#include "backend/cpu/cpu_backend.h"
#include "base/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/silu_multiply.cpp"
#include "backend/cpu/targets.h"
// After targets.h.
#include <hwy/highway.h>

#include "backend/cpu/norm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace indexshare {
namespace HWY_NAMESPACE {

void gate_elements(const float* gate, const float* up, float* y, int64_t count) {
  const Floats one = broadcast(1.0f);
  for_each_vector(static_cast<size_t>(count), [&](size_t i, size_t n) {
    const Floats g = load_n(gate + i, n);
    const Floats silu = hn::Div(g, hn::Add(one, exponential(hn::Neg(g))));
    store_n(hn::Mul(silu, load_n(up + i, n)), y + i, n);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace indexshare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace indexshare {

HWY_EXPORT(gate_elements);

void CpuBackend::silu_multiply(const SiluMultiplyArgs& args) {
  const auto kernel = HWY_DISPATCH_TABLE(gate_elements)[path_.table_index];
  parallel(args.num_rows * args.dim, 1 << 16, [&](int64_t begin, int64_t end, int) {
    kernel(args.gate + begin, args.up + begin, args.y + begin, end - begin);
  });
}

}  // namespace indexshare
#endif
