// SPDX-License-Identifier: Apache-2.0
// One case = one op at one shape: how to run it, and the work it cannot avoid.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "ceilings.h"

namespace indexshare {

/// Names of cache formats on the command line.
inline const std::map<std::string, RowFormat> kRowFormats = {
    {"f32", RowFormat::f32}, {"bf16", RowFormat::bf16}, {"int8", RowFormat::int8}};

/// The sizes of a model that the ops see.
struct ModelShape {
  std::string name;
  int64_t hidden, num_heads, q_lora, kv_lora, nope, rope, v_dim;
  int64_t index_heads, index_dim, topk;
  int64_t num_experts, experts_per_token, expert_dim, vocab;
};

ModelShape model_shape(const std::string& name);  // "bench-8l" | "glm" | "indexshare-tiny"

enum class Access { stream, rows };  // in order, or random rows

struct OpCase {
  std::string name;
  double flops = 0, bytes = 0;  // a multiply-add counts two, once: not again for split activations
  Access access = Access::stream;
  Arithmetic arithmetic = Arithmetic::f32;
  double working_set = 0;  // bytes; 0 = `bytes`
  std::function<void()> run;
};

struct CaseOptions {
  std::vector<int64_t> rows, contexts;
  RowFormat cache = RowFormat::bf16, keys = RowFormat::int8;
  DType weights = DType::bf16;  // as stored
  WeightFormat format = WeightFormat::as_stored;
  int activation_bits = 16;
};

/// Calls visit for each case of an op; its data lives as long as the call.
using VisitCase = std::function<void(const OpCase&)>;
void for_each_case(Backend& backend, const ModelShape& shape, const CaseOptions& options,
                   const std::string& op, const VisitCase& visit);
const std::vector<std::string>& op_names();

}  // namespace indexshare
