// SPDX-License-Identifier: Apache-2.0
#include "model/model_config.h"

#include <algorithm>
#include <array>
#include <set>

#include "base/check.h"
#include "base/json.h"
#include "model/families/families.h"

namespace indexshare {

namespace {

constexpr JsonLimits kConfigLimits = {.max_bytes = 4'000'000, .max_depth = 32, .max_values = 100'000};
constexpr JsonLimits kOverrideLimits = {.max_bytes = 1'000'000, .max_depth = 32, .max_values = 2'000};

constexpr std::array<std::string_view, 4> kPlanKeys = {"index_topk_pattern", "index_topk_freq",
                                                       "index_skip_topk_offset", "indexer_types"};

bool overrides_any(const Json& overrides, std::initializer_list<const char*> keys) {
  return std::any_of(keys.begin(), keys.end(), [&](const char* key) { return overrides.contains(key); });
}

// Lays `overrides` over the document as a JSON merge patch (objects merge, null removes). A share plan
// imposed this way must win over an encoding of higher precedence in the file, so those are dropped.
void apply_overrides(Json& document, const Json& overrides) {
  const bool pattern = overrides_any(overrides, {"index_topk_pattern"});
  const bool frequency = overrides_any(overrides, {"index_topk_freq", "index_skip_topk_offset"});
  const bool types = overrides_any(overrides, {"indexer_types"});
  if (pattern || frequency || types) {
    if (!types) document.erase("indexer_types");
    if (!pattern) document.erase("index_topk_pattern");
  }
  document.merge_patch(overrides);
}

Json parse_overrides(std::string_view text) {
  try {
    Json overrides = parse_json(text, "--hf-overrides", kOverrideLimits);
    JsonObject(overrides, "--hf-overrides");
    return overrides;
  } catch (const Error& error) {
    throw Error(ErrorCode::invalid_argument, error.what());
  }
}

// An override that nothing reads is most likely misspelt. What the file has may stay unread, and so may one
// of two encodings of a share plan.
void check_overrides(const Json& overrides, const Json& file,
                     const std::set<std::string, std::less<>>& read) {
  for (const auto& [key, value] : overrides.items())
    if (!file.contains(key) && !read.contains(key) && std::ranges::count(kPlanKeys, key) == 0)
      fail(ErrorCode::invalid_argument,
           "--hf-overrides: {}: expected a field that config.json has or that this model type reads", key);
}

const Family& find_family(const JsonObject& json) {
  std::string known;
  const std::string model_type = json.required_string("model_type");
  for (const Family& family : families()) {
    if (family.model_type == model_type) {
      const std::string wanted = fmt::format("[\"{}\"] for model_type {}", family.architecture, model_type);
      if (const Json* architectures = json.optional_array("architectures")) {
        if (architectures->size() != 1 || !architectures->front().is_string() ||
            architectures->front().get_ref<const std::string&>() != family.architecture)
          json.reject("architectures", wanted);
      }
      return family;
    }
    known += (known.empty() ? "\"" : "\" or \"") + std::string(family.model_type);
  }
  json.reject("model_type", known + "\"");
}

ModelConfig read_config(Json document, const std::string& what, std::string_view overrides) {
  JsonObject(document, what);  // an object, or an error that says so
  const Json file = document;
  const Json laid_over = overrides.empty() ? Json::object() : parse_overrides(overrides);
  apply_overrides(document, laid_over);
  JsonObject json(document, overrides.empty() ? what : what + " with --hf-overrides");
  std::set<std::string, std::less<>> read;
  json.record(read);
  const Family& family = find_family(json);
  ModelConfig config = family.read(json);
  config.family = family.model_type;
  if (json.has("auto_map"))
    config.notes.push_back("config.json: auto_map is ignored: custom code is never run");
  check_overrides(laid_over, file, read);
  return config;
}

}  // namespace

ModelConfig load_model_config(const std::filesystem::path& path, std::string_view overrides) {
  std::error_code error;
  const auto file = std::filesystem::is_directory(path, error) ? path / "config.json" : path;
  return read_config(read_json_file(file, kConfigLimits), file.string(), overrides);
}

ModelConfig parse_model_config(std::string_view json, const std::string& what, std::string_view overrides) {
  return read_config(parse_json(json, what, kConfigLimits), what, overrides);
}

}  // namespace indexshare
