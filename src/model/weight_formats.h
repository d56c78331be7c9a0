// SPDX-License-Identifier: Apache-2.0
// Which weights are quantised, and how finely: decided by a weight's name in the checkpoint, for loading and
// for writing quantised checkpoints alike.
#pragma once

#include <string>

#include "backend/backend.h"

namespace indexshare {

enum class WeightRole {
  projection,  // projections of attention, experts, MLPs: what most of the bytes are
  delicate,    // index queries and keys, the head: int8 even where the others are int4
  key_value,   // kv_b_proj: as delicate, but quantised at load alone, as it is cut by head and transposed
               // there
  exact,       // router, index head weights, embedding, norms, biases and whatever else: as stored
};

/// @param name as in the checkpoint, "model.layers.3.self_attn.q_a_proj.weight"
WeightRole role_of(const std::string& name);

/// @param wanted the format of projections
WeightFormat format_of(WeightRole role, WeightFormat wanted);

std::string weight_format_name(WeightFormat format);     // "as_stored", "int8", "int4"
WeightFormat weight_format_of(const std::string& name);  // @throws Error{invalid_argument}

/// What MatrixSource::activation_bits shall be. @param wanted 0: 32 for weights kept in f32 or f16, else 16
int activation_bits_of(WeightRole role, DType stored, WeightFormat format, int wanted);

}  // namespace indexshare
