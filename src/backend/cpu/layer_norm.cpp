// SPDX-License-Identifier: Apache-2.0
// y[i] = (x[i] - mean) / sqrt(var + eps) * weight[i] + bias[i], var = mean((x - mean)^2), in two passes. Work
// and order of sums as in rms_norm.
#include <algorithm>
#include <cmath>

#include "backend/cpu/cpu_backend.h"
#include "base/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/layer_norm.cpp"
#include "backend/cpu/targets.h"
// After targets.h.
#include <hwy/highway.h>

#include "backend/cpu/norm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace indexshare {
namespace HWY_NAMESPACE {

void normalize_layer(const LayerNormArgs& args, int64_t begin, int64_t end) {
  const size_t dim = static_cast<size_t>(args.dim);
  const float count = static_cast<float>(dim);
  for (int64_t row = begin; row < end; ++row) {
    const float* x = args.x + row * args.x_stride;
    float* y = args.y + row * args.y_stride;
    const float mean = sum_of(x, dim, [](Floats v, Floats total) { return hn::Add(total, v); }) / count;
    const Floats means = broadcast(mean);
    const float squares = sum_of(x, dim, [=](Floats v, Floats total) {
      const Floats difference = hn::Sub(v, means);
      return hn::MulAdd(difference, difference, total);
    });
    const Floats inverse = broadcast(1.0f / std::sqrt(squares / count + args.eps));
    for_each_vector(dim, [&](size_t i, size_t n) {
      const Floats scaled =
          hn::Mul(hn::Mul(hn::Sub(load_n(x + i, n), means), inverse), load_n(args.weight + i, n));
      store_n(hn::Add(scaled, load_n(args.bias + i, n)), y + i, n);
    });
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace indexshare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace indexshare {

HWY_EXPORT(normalize_layer);

void CpuBackend::layer_norm(const LayerNormArgs& args) {
  ENSURE(args.dim > 0 && (args.num_rows <= 1 || (args.x_stride >= args.dim && args.y_stride >= args.dim)),
         "layer_norm: dim {}, x_stride {}, y_stride {}", args.dim, args.x_stride, args.y_stride);
  const auto kernel = HWY_DISPATCH_TABLE(normalize_layer)[path_.table_index];
  parallel(args.num_rows, 1 + (1 << 17) / args.dim,
           [&](int64_t begin, int64_t end, int) { kernel(args, begin, end); });
}

}  // namespace indexshare
#endif
