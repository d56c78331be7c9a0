// SPDX-License-Identifier: Apache-2.0
// y[row] = sum over the row's experts e, in the order given, of weight_e * down_e(silu(gate_e x) * up_e x).
// Assignments (row, choice) are grouped by expert with a counting sort; gate and up of all experts are one
// parallel region, down another; then each row sums its own assignments in its own order, so grouping cannot
// show. Rows go in blocks that bound the working memory.
#include <algorithm>
#include <cstring>

#include "backend/cpu/cpu_backend.h"
#include "base/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/experts.cpp"
#include "backend/cpu/targets.h"
// After targets.h.
#include <hwy/highway.h>

#include "backend/cpu/norm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace indexshare {
namespace HWY_NAMESPACE {

// y[i] = sum_n weights[n] * rows[places[n], i], n ascending.
void combine_row(const float* rows, const int32_t* places, const float* weights, int64_t num_terms,
                 int64_t dim, float* y) {
  for_each_vector(static_cast<size_t>(dim), [&](size_t i, size_t n) {
    Floats sum = hn::Zero(FloatTag());
    for (int64_t term = 0; term < num_terms; ++term)
      sum = hn::MulAdd(broadcast(weights[term]),
                       load_n(rows + places[term] * dim + static_cast<int64_t>(i), n), sum);
    store_n(sum, y + i, n);
  });
}

}  // namespace HWY_NAMESPACE
}  // namespace indexshare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace indexshare {

HWY_EXPORT(combine_row);

namespace {

constexpr int64_t kWorkingFloats = int64_t{16} << 20;  // 64 MiB

const PackedMatrix* packed(const Matrix* matrix) {
  const auto* weight = dynamic_cast<const PackedMatrix*>(matrix);
  ENSURE(weight != nullptr, "experts: a weight is a lookup table or another backend's");
  return weight;
}

/// Assignments of a block of rows, grouped by expert.
struct Groups {
  int32_t* first;   // [num_experts + 1] first place of each expert
  int32_t* row_of;  // [num_assignments] row of the assignment at a place
  int32_t* place;   // [num_rows, experts_per_token] place of each assignment
};

void group_by_expert(const ExpertsArgs& args, int64_t row_begin, int64_t num_rows, const Groups& groups) {
  const auto num_experts = static_cast<int64_t>(args.table.size());
  const int64_t k = args.experts_per_token, count = num_rows * k;
  const int32_t* experts = args.experts + row_begin * k;
  std::fill_n(groups.first, num_experts + 1, 0);
  for (int64_t n = 0; n < count; ++n) {
    ENSURE(experts[n] >= 0 && experts[n] < num_experts, "expert {} of {}", experts[n], num_experts);
    ++groups.first[experts[n] + 1];
  }
  for (int64_t e = 0; e < num_experts; ++e) groups.first[e + 1] += groups.first[e];
  for (int64_t n = 0; n < count; ++n) {
    const int32_t place = groups.first[experts[n]]++;
    groups.place[n] = place;
    groups.row_of[place] = static_cast<int32_t>(row_begin + n / k);
  }
  for (int64_t e = num_experts; e > 0; --e) groups.first[e] = groups.first[e - 1];
  groups.first[0] = 0;
}

}  // namespace

void CpuBackend::experts(const ExpertsArgs& args) {
  const int64_t k = args.experts_per_token, hidden = args.hidden, dim = args.expert_dim;
  const auto num_experts = static_cast<int64_t>(args.table.size());
  ENSURE(k > 0 && hidden > 0 && dim > 0, "experts: {} experts per token, hidden {}, expert_dim {}", k, hidden,
         dim);
  const int64_t row_block =
      std::clamp<int64_t>(kWorkingFloats / (k * (2 * dim + hidden)), 1, std::max<int64_t>(args.num_rows, 1));
  const auto max_places = static_cast<size_t>(row_block * k);
  const size_t index_bytes = (2 * max_places + static_cast<size_t>(num_experts) + 1 + 15) / 16 * 64;
  std::byte* memory =
      rows_scratch_.bytes(index_bytes + max_places * static_cast<size_t>(2 * dim + hidden) * 4);
  auto* indices = reinterpret_cast<int32_t*>(memory);
  const Groups groups{indices + 2 * max_places, indices, indices + max_places};
  float* gate = reinterpret_cast<float*>(memory + index_bytes);  // [places, dim]
  float* up = gate + max_places * static_cast<size_t>(dim);      // [places, dim]
  float* down = up + max_places * static_cast<size_t>(dim);      // [places, hidden]
  const auto combine = HWY_DISPATCH_TABLE(combine_row)[path_.table_index];
  for (int64_t row_begin = 0; row_begin < args.num_rows; row_begin += row_block) {
    const int64_t num_rows = std::min(row_block, args.num_rows - row_begin);
    group_by_expert(args, row_begin, num_rows, groups);
    const auto for_each_used = [&](const auto& visit) {
      products_.clear();
      for (int64_t e = 0; e < num_experts; ++e)
        if (groups.first[e + 1] > groups.first[e])
          visit(args.table[static_cast<size_t>(e)], groups.first[e], groups.first[e + 1] - groups.first[e]);
      multiply(products_);
    };
    for_each_used([&](const Expert& expert, int64_t place, int64_t count) {
      const int32_t* rows = groups.row_of + place;
      products_.push_back({args.x, hidden, rows, packed(expert.gate), gate + place * dim, dim, count});
      products_.push_back({args.x, hidden, rows, packed(expert.up), up + place * dim, dim, count});
    });
    silu_multiply({gate, up, gate, num_rows * k, dim});
    for_each_used([&](const Expert& expert, int64_t place, int64_t count) {
      products_.push_back(
          {gate + place * dim, dim, nullptr, packed(expert.down), down + place * hidden, hidden, count});
    });
    parallel(num_rows, 1 + (1 << 16) / (k * hidden), [&](int64_t begin, int64_t end, int) {
      for (int64_t row = begin; row < end; ++row)
        combine(down, groups.place + row * k, args.weights + (row_begin + row) * k, k, hidden,
                args.y + (row_begin + row) * hidden);
    });
  }
}

}  // namespace indexshare
#endif
