// SPDX-License-Identifier: Apache-2.0
// The sigmoid router: choice = sigmoid(logit) + bias picks groups by the sum of their two largest choices,
// then experts; sigmoid alone weighs them. Equal choices go to the smaller index; sums run over the chosen
// experts in ascending index. Rows are shared out among threads. libm's exp, as in the reference: here a last
// bit can pick another expert.
#include <algorithm>
#include <cmath>

#include "backend/cpu/cpu_backend.h"
#include "base/check.h"

namespace indexshare {

namespace {

// One row's working memory.
struct Choices {
  float* sigmoid;      // [num_experts]
  float* choice;       // [num_experts]; what is taken or excluded is marked in `open`
  float* worth;        // [num_groups]
  float* open;         // [num_experts], 1 or 0
  float* open_groups;  // [num_groups]
};

// The largest open value in [begin, end), the first of equals; NaN is never larger than anything. Closes it.
int64_t take_best(const float* values, float* open, int64_t begin, int64_t end) {
  int64_t best = -1;
  for (int64_t i = begin; i < end; ++i)
    if (open[i] != 0 && (best < 0 || values[i] > values[best])) best = i;
  if (best >= 0) open[best] = 0;
  return best;
}

// Leaves the experts of the best groups open.
void open_best_groups(const RouteArgs& args, const Choices& c) {
  const int64_t size = args.num_experts / args.num_groups;
  std::fill_n(c.open, args.num_experts, 1.0f);
  std::fill_n(c.open_groups, args.num_groups, 1.0f);
  if (args.groups_per_token == args.num_groups) return;
  for (int64_t g = 0; g < args.num_groups; ++g) {
    c.worth[g] = 0;
    for (int64_t n = 0; n < std::min<int64_t>(2, size); ++n)
      c.worth[g] += c.choice[take_best(c.choice, c.open, g * size, (g + 1) * size)];
  }
  std::fill_n(c.open, args.num_experts, 0.0f);
  for (int64_t n = 0; n < args.groups_per_token; ++n)
    std::fill_n(c.open + take_best(c.worth, c.open_groups, 0, args.num_groups) * size, size, 1.0f);
}

void route_row(const RouteArgs& args, int64_t row, const Choices& c) {
  const int64_t k = args.experts_per_token;
  for (int64_t e = 0; e < args.num_experts; ++e) {
    c.sigmoid[e] = 1.0f / (1.0f + std::exp(-args.logits[row * args.num_experts + e]));
    c.choice[e] = c.sigmoid[e] + args.bias[e];
  }
  open_best_groups(args, c);
  int32_t* experts = args.experts + row * k;
  float* weights = args.weights + row * k;
  for (int64_t n = 0; n < k; ++n)
    experts[n] = static_cast<int32_t>(take_best(c.choice, c.open, 0, args.num_experts));
  std::sort(experts, experts + k);
  float sum = 0;
  for (int64_t n = 0; n < k; ++n) sum += c.sigmoid[experts[n]];
  for (int64_t n = 0; n < k; ++n) {
    const float sigmoid = c.sigmoid[experts[n]];
    weights[n] = (args.normalize ? sigmoid / (sum + 1e-20f) : sigmoid) * args.scale;
  }
}

}  // namespace

void CpuBackend::route(const RouteArgs& args) {
  const int64_t k = args.experts_per_token, experts = args.num_experts, groups = args.num_groups;
  ENSURE(groups > 0 && experts % groups == 0, "{} experts in {} groups", experts, groups);
  ENSURE(args.groups_per_token > 0 && args.groups_per_token <= groups &&
             k <= args.groups_per_token * (experts / groups),
         "{} experts from {} groups", k, args.groups_per_token);
  parallel(args.num_rows, 1 + 4000 / experts, [&](int64_t begin, int64_t end, int worker) {
    float* memory =
        worker_scratch_[static_cast<size_t>(worker)].floats(static_cast<size_t>(3 * experts + 2 * groups));
    const Choices choices{memory, memory + experts, memory + 3 * experts, memory + 2 * experts,
                          memory + 3 * experts + groups};
    for (int64_t row = begin; row < end; ++row) route_row(args, row, choices);
  });
}

}  // namespace indexshare
