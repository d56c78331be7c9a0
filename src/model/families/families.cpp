// SPDX-License-Identifier: Apache-2.0
#include "model/families/families.h"

namespace indexshare {

const std::vector<Family>& families() {
  static const std::vector<Family> list = {
      {"glm_moe_dsa", "GlmMoeDsaForCausalLM", read_glm_moe_dsa},     // GLM-5, 5.1, 5.2, 5.3
      {"deepseek_v32", "DeepseekV32ForCausalLM", read_deepseek_v32}  // DeepSeek-V3.2, V3.2-Exp
  };
  return list;
}

}  // namespace indexshare
