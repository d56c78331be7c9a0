// SPDX-License-Identifier: Apache-2.0
// The tensors that a config implies, by name and number of elements, without scales of quantised ones.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "model/model_config.h"

namespace indexshare {

struct ImpliedTensor {
  std::string name;
  int64_t num_elements = 0;
  bool is_parameter = true;  // false for the routers' correction biases, which are not trained by gradient
  bool is_mtp = false;       // of an MTP layer: counted, but a model runs without
};

/// Calls visit(tensor) for every tensor, indexers of full layers (and of MTP layers) only, until it returns
/// false. A config can imply far more tensors than fit in memory, so there is no list of them.
void visit_implied_tensors(const ModelConfig& config, const std::function<bool(const ImpliedTensor&)>& visit);

}  // namespace indexshare
