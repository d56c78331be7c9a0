// SPDX-License-Identifier: Apache-2.0
// The model families this build knows: one entry, one file each. A family reads its config.json into a
// ModelConfig; nothing above asks which family it was.
#pragma once

#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/model_config.h"

namespace indexshare {

struct Family {
  std::string_view model_type;    // config.json's "model_type"
  std::string_view architecture;  // the only entry its "architectures" may have
  ModelConfig (*read)(const JsonObject& json);
};

/// Every family, in the order messages list them.
const std::vector<Family>& families();

ModelConfig read_glm_moe_dsa(const JsonObject& json);
ModelConfig read_deepseek_v32(const JsonObject& json);

}  // namespace indexshare
