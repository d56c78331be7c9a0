// SPDX-License-Identifier: Apache-2.0
// The sigmoid router: choice = sigmoid(logit) + bias picks groups, then experts; sigmoid alone weighs them.
// Equal choices go to the smaller index. Sums run over the chosen experts in ascending index.
#include <algorithm>
#include <cmath>
#include <vector>

#include "backend/reference/reference_backend.h"
#include "base/check.h"

namespace indexshare {

namespace {

// The largest value among the open ones, the first of equals; NaN is never larger than anything.
int64_t best_open(const std::vector<float>& values, const std::vector<bool>& open) {
  int64_t best = -1;
  for (size_t i = 0; i < values.size(); ++i)
    if (open[i] && (best < 0 || values[i] > values[best])) best = static_cast<int64_t>(i);
  return best;
}

// Indices of the `count` largest open values; they are closed on return.
std::vector<int64_t> take_largest(const std::vector<float>& values, std::vector<bool>& open, int64_t count) {
  std::vector<int64_t> taken;
  for (int64_t n = 0; n < count; ++n) {
    taken.push_back(best_open(values, open));
    open[taken.back()] = false;
  }
  return taken;
}

// Experts of the best groups; a group's worth is the sum of its two largest choices.
std::vector<bool> experts_of_best_groups(const RouteArgs& args, const std::vector<float>& choice) {
  const int64_t group_size = args.num_experts / args.num_groups;
  std::vector<float> worth(args.num_groups);
  for (int64_t g = 0; g < args.num_groups; ++g) {
    std::vector<float> members(choice.begin() + g * group_size, choice.begin() + (g + 1) * group_size);
    std::vector<bool> open(members.size(), true);
    for (int64_t best : take_largest(members, open, std::min<int64_t>(2, group_size)))
      worth[g] += members[best];
  }
  std::vector<bool> open_groups(args.num_groups, true), open(args.num_experts, false);
  for (int64_t g : take_largest(worth, open_groups, args.groups_per_token))
    for (int64_t e = g * group_size; e < (g + 1) * group_size; ++e) open[e] = true;
  return open;
}

}  // namespace

void ReferenceBackend::route(const RouteArgs& args) {
  const int64_t k = args.experts_per_token;
  ENSURE(args.num_groups > 0 && args.num_experts % args.num_groups == 0, "{} experts in {} groups",
         args.num_experts, args.num_groups);
  ENSURE(args.groups_per_token > 0 && args.groups_per_token <= args.num_groups &&
             k <= args.groups_per_token * (args.num_experts / args.num_groups),
         "{} experts from {} groups", k, args.groups_per_token);
  for (int64_t row = 0; row < args.num_rows; ++row) {
    std::vector<float> sigmoid(args.num_experts), choice(args.num_experts);
    for (int64_t e = 0; e < args.num_experts; ++e) {
      sigmoid[e] = 1.0f / (1.0f + std::exp(-args.logits[row * args.num_experts + e]));
      choice[e] = sigmoid[e] + args.bias[e];
    }
    std::vector<bool> open = experts_of_best_groups(args, choice), chosen(args.num_experts, false);
    for (int64_t e : take_largest(choice, open, k)) chosen[e] = true;

    float sum = 0;
    for (int64_t e = 0; e < args.num_experts; ++e)
      if (chosen[e]) sum += sigmoid[e];
    int64_t out = row * k;
    for (int64_t e = 0; e < args.num_experts; ++e) {
      if (!chosen[e]) continue;
      args.experts[out] = static_cast<int32_t>(e);
      args.weights[out++] = (args.normalize ? sigmoid[e] / (sum + 1e-20f) : sigmoid[e]) * args.scale;
    }
  }
}

}  // namespace indexshare
