// SPDX-License-Identifier: Apache-2.0
// queries[r * heads + h] = the query of a head as f32, int8 codes (also widened to f32) or bf16;
// weights = head weights, times the query's scale where it was quantised (quantise.h, the same bits);
// biases = the row's score, before its key's scale, where all dot products are zero.
#include "backend/cpu/pack_queries.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "backend/quantise.h"
#include "base/dtype.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/pack_queries.cpp"
#include "backend/cpu/targets.h"
// After targets.h.
#include <hwy/highway.h>

#include "backend/cpu/quantise-inl.h"

HWY_BEFORE_NAMESPACE();
namespace indexshare {
namespace HWY_NAMESPACE {

void pack_codes(const PackQueriesArgs& a, int64_t number, const float* query) {
  const PackedQueries& p = *a.packed;
  const int64_t dim = a.args->head_dim;
  std::array<int8_t, kMaxInt8Dim> codes;
  const bool whole_vectors = dim % static_cast<int64_t>(kLanes) == 0;
  p.weights[number] *=
      whole_vectors ? quantise(query, dim, 127, codes.data()) : quantise_int8(query, dim, codes.data());
  if (a.form == QueryForm::floats) {
    float* to = reinterpret_cast<float*>(p.queries) + number * p.dim;
    for (int64_t d = 0; d < dim; ++d) to[d] = codes[static_cast<size_t>(d)];
    return;
  }
  std::fill(codes.begin() + dim, codes.begin() + p.dim, int8_t{0});
  std::memcpy(p.queries + number * p.dim, codes.data(), static_cast<size_t>(p.dim));
  int32_t sum = 0;
  for (int64_t d = 0; d < dim; ++d) sum += codes[static_cast<size_t>(d)];
  p.sums[number] = sum;
}

void pack_bf16(const PackQueriesArgs& a, int64_t number, const float* query) {
  const int64_t dim = a.packed->dim;
  auto* to = reinterpret_cast<uint16_t*>(a.packed->queries) + number * dim;
  for (int64_t d = 0; d < dim; ++d) to[d] = d < a.args->head_dim ? f32_to_bf16(query[d]) : uint16_t{0};
}

void pack_query(const PackQueriesArgs& a, int64_t number, const float* query) {
  if (a.args->keys.format == RowFormat::int8)
    pack_codes(a, number, query);
  else if (a.form == QueryForm::bf16)
    pack_bf16(a, number, query);
  else
    std::memcpy(reinterpret_cast<float*>(a.packed->queries) + number * a.packed->dim, query,
                static_cast<size_t>(a.packed->dim) * sizeof(float));
}

// A head that the model does not have, of weight 0.
void pack_nothing(const PackQueriesArgs& a, int64_t number) {
  const PackedQueries& p = *a.packed;
  const size_t bytes = query_element_bytes(a.form) * static_cast<size_t>(p.dim);
  std::memset(p.queries + static_cast<size_t>(number) * bytes, 0, bytes);
  p.weights[number] = 0;
  p.sums[number] = 0;
}

void pack(const PackQueriesArgs& a) {
  const PackedQueries& p = *a.packed;
  const int64_t heads = a.args->num_heads, dim = a.args->head_dim;
  // Old memory might hold denormal numbers, on which arithmetic is slow.
  std::fill_n(p.weights + p.num_rows * p.num_heads, PackedQueries::kSlack, 0.0f);
  std::fill_n(p.biases, p.num_rows + PackedQueries::kSlack, 0.0f);
  for (int64_t r = 0; r < p.num_rows; ++r) {
    for (int64_t h = 0; h < p.num_heads; ++h) {
      const int64_t number = r * p.num_heads + h, from = (a.row_begin + r) * heads + h;
      if (h >= heads) {
        pack_nothing(a, number);
        continue;
      }
      p.weights[number] = a.args->head_weights[from];
      pack_query(a, number, a.args->queries + from * dim);
      p.biases[r] = std::fma(p.weights[number], kDotBias, p.biases[r]);
    }
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace indexshare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace indexshare {

HWY_EXPORT(pack);

PackQueries pack_queries(size_t table_index) { return HWY_DISPATCH_TABLE(pack)[table_index]; }

int64_t packed_dim(const IndexSelectArgs& args, QueryForm form) {
  return form == QueryForm::floats ? args.head_dim : IndexKeyLayout::padded(args.keys.format, args.head_dim);
}

int64_t packed_heads(int64_t num_heads, QueryForm form) {
  if (form == QueryForm::floats) return num_heads;
  if (num_heads > 16) return (num_heads + 31) / 32 * 32;
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(num_heads)));
}

size_t query_element_bytes(QueryForm form) {
  return form == QueryForm::floats ? sizeof(float) : form == QueryForm::bf16 ? sizeof(uint16_t) : 1;
}

}  // namespace indexshare
#endif
