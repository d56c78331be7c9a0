// SPDX-License-Identifier: Apache-2.0
// GLM-5 to 5.3: the indexer rotates interleaved pairs like the attention; no expert groups unless stated.
#include "model/families/config_fields.h"
#include "model/families/families.h"

namespace indexshare {

ModelConfig read_glm_moe_dsa(const JsonObject& json) {
  DsaDefaults defaults;
  defaults.indexer_rope_layout = RopeLayout::interleaved;
  defaults.groups_required = false;
  return read_dsa_config(json, defaults);
}

}  // namespace indexshare
