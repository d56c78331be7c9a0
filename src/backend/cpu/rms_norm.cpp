// SPDX-License-Identifier: Apache-2.0
// y[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i]. Four vectors of partial sums, added in one order; rows are
// shared out among threads.
#include <algorithm>
#include <cmath>

#include "backend/cpu/cpu_backend.h"
#include "base/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/rms_norm.cpp"
#include "backend/cpu/targets.h"
// After targets.h.
#include <hwy/highway.h>

#include "backend/cpu/norm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace indexshare {
namespace HWY_NAMESPACE {

void normalize_rms(const RmsNormArgs& args, int64_t begin, int64_t end) {
  const size_t dim = static_cast<size_t>(args.dim);
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x + row * args.x_stride;
    float* y = args.y + row * args.y_stride;
    const float sum = sum_of(x, dim, [](Floats v, Floats total) { return hn::MulAdd(v, v, total); });
    const Floats inverse = broadcast(1.0f / std::sqrt(sum / static_cast<float>(dim) + args.eps));
    for_each_vector(dim, [&](size_t i, size_t n) {
      store_n(hn::Mul(hn::Mul(load_n(x + i, n), inverse), load_n(args.weight + i, n)), y + i, n);
    });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace indexshare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace indexshare {

HWY_EXPORT(normalize_rms);

void CpuBackend::rms_norm(const RmsNormArgs& args) {
  ENSURE(args.dim > 0 && (args.num_rows <= 1 || (args.x_stride >= args.dim && args.y_stride >= args.dim)),
         "rms_norm: dim {}, x_stride {}, y_stride {}", args.dim, args.x_stride, args.y_stride);
  const auto kernel = HWY_DISPATCH_TABLE(normalize_rms)[path_.table_index];
  parallel(args.num_rows, 1 + (1 << 17) / args.dim,
           [&](int64_t begin, int64_t end, int) { kernel(args, begin, end); });
}

}  // namespace indexshare
#endif
