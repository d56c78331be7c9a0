// SPDX-License-Identifier: Apache-2.0
// DeepSeek-V3.2: the indexer rotates half-split pairs although the attention rotates interleaved ones (the
// first reference code had this wrong); experts are routed in groups.
#include "model/families/config_fields.h"
#include "model/families/families.h"

namespace indexshare {

ModelConfig read_deepseek_v32(const JsonObject& json) {
  DsaDefaults defaults;
  defaults.indexer_rope_layout = RopeLayout::half_split;
  defaults.groups_required = true;
  defaults.draft_hidden = DraftHidden::residual;
  return read_dsa_config(json, defaults);
}

}  // namespace indexshare
