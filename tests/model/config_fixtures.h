// SPDX-License-Identifier: Apache-2.0
// Real configurations from tests/fixtures/configs, with changes laid over them.
#pragma once

#include <filesystem>
#include <string>

#include "base/json.h"
#include "model/model_config.h"

namespace indexshare::test {

inline std::filesystem::path config_path(const std::string& name) {
  return std::filesystem::path(INDEXSHARE_SOURCE_DIR) / "tests/fixtures/configs" / (name + ".json");
}

/// The text of the fixture after a JSON merge patch (null removes a key).
inline std::string changed(const std::string& name, const std::string& patch) {
  Json document = read_json_file(config_path(name));
  document.merge_patch(parse_json(patch, "patch"));
  return document.dump();
}

inline ModelConfig parse_changed(const std::string& name, const std::string& patch) {
  return parse_model_config(changed(name, patch), "config.json");
}

/// GLM-5.2's with as many layers as `pattern` has letters, that plan, and one dense layer.
inline std::string glm_with_pattern(const std::string& pattern) {
  return changed("glm-5.2",
                 "{\"num_hidden_layers\":" + std::to_string(pattern.size()) +
                     ",\"mlp_layer_types\":null,\"first_k_dense_replace\":1,\"indexer_types\":null,"
                     "\"index_topk_pattern\":\"" +
                     pattern + "\"}");
}

}  // namespace indexshare::test
