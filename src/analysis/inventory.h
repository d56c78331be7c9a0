// SPDX-License-Identifier: Apache-2.0
// The tensors that a config implies, by name and number of elements, without scales of quantised ones.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/model_config.h"

namespace indexshare {

struct ImpliedTensor {
  std::string name;
  int64_t num_elements = 0;
  bool is_parameter = true;  // false for the routers' correction biases, which are not trained by gradient
  bool is_mtp = false;       // of an MTP layer: counted, but a model runs without
};

/// Indexers of full layers (and of MTP layers) only.
std::vector<ImpliedTensor> implied_tensors(const ModelConfig& config);

}  // namespace indexshare
