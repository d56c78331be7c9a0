// SPDX-License-Identifier: Apache-2.0
#include <fmt/ranges.h>

#include <limits>
#include <set>

#include "base/check.h"
#include "model/families/config_fields.h"

namespace indexshare {

namespace {

constexpr int64_t kMaxIndexHeads = 1 << 11;
constexpr int64_t kMaxIndexHeadDim = 1 << 12;
constexpr int64_t kMaxPosition = std::numeric_limits<int32_t>::max();

FixedPattern read_fixed_pattern(const JsonObject& json) {
  static const std::set<std::string> known = {"window",       "sinks",      "stride",
                                              "stride_phase", "stride_cap", "mode"};
  for (const auto& [key, value] : json.json().items())
    if (!known.contains(key))
      fail(ErrorCode::unsupported, "{}: index_fixed_pattern: expected only {}, found the key {}", json.what(),
           fmt::join(known, ", "), describe_json(Json(key)));
  FixedPattern pattern;
  pattern.window = json.optional_int("window", 0, kMaxPosition).value_or(0);
  pattern.sinks = json.optional_int("sinks", 0, kMaxPosition).value_or(0);
  pattern.stride = json.optional_int("stride", 0, kMaxPosition).value_or(0);
  pattern.stride_phase = json.optional_int("stride_phase", 0, kMaxPosition).value_or(0);
  pattern.stride_cap = json.optional_int("stride_cap", 0, kMaxPosition).value_or(0);
  if (pattern.stride_phase > 0 && pattern.stride_phase >= pattern.stride)
    json.reject("stride_phase", fmt::format("less than stride = {}", pattern.stride));
  if (pattern.stride_cap > 0 && pattern.stride == 0) json.reject("stride_cap", "0, as there is no stride");
  const std::string mode = json.optional_string("mode").value_or("fill");
  if (mode != "fill" && mode != "union") json.reject("mode", "\"fill\" or \"union\"");
  pattern.mode = mode == "fill" ? FixedPattern::Mode::fill : FixedPattern::Mode::union_;
  return pattern;
}

// A stride's first position is its phase: only phase 0 reaches the queries before it.
bool is_never_empty(const FixedPattern& pattern) {
  return pattern.window > 0 || pattern.sinks > 0 || (pattern.stride > 0 && pattern.stride_phase == 0);
}

// index_topk_pattern: a string of F and S, or a list of those letters or of the words of indexer_types.
std::optional<std::string> read_pattern(const JsonObject& json) {
  const Json* value = json.find("index_topk_pattern");
  if (!value) return std::nullopt;
  if (value->is_string()) return json.required_string("index_topk_pattern");
  if (!value->is_array()) json.reject("index_topk_pattern", "a string of F and S");
  std::string pattern;
  for (const std::string& entry : json.required_string_list("index_topk_pattern")) {
    if (entry != "F" && entry != "S" && entry != "full" && entry != "shared")
      fail(ErrorCode::unsupported, "{}: {}[{}]: expected \"F\" or \"S\", found {}", json.what(),
           json.path_of("index_topk_pattern"), pattern.size(), describe_json(Json(entry)));
    pattern += entry == "F" || entry == "full" ? 'F' : 'S';
  }
  return pattern;
}

SharePlan read_share_plan(const JsonObject& json, int num_layers) {
  SharePlanFields fields;
  if (json.has("indexer_types")) fields.indexer_types = json.required_string_list("indexer_types");
  fields.index_topk_pattern = read_pattern(json);
  fields.index_topk_freq = json.optional_int("index_topk_freq", 1);
  fields.index_skip_topk_offset = json.optional_int("index_skip_topk_offset", 0);
  try {
    return choose_share_plan(fields, num_layers);
  } catch (const Error& error) {
    throw Error(error.code(), json.what() + ": " + error.what());
  }
}

}  // namespace

void read_selection(const JsonObject& json, const DsaDefaults& defaults, ModelConfig& config) {
  if (const auto section = json.optional_object("index_fixed_pattern"))
    config.pattern = read_fixed_pattern(*section);
  IndexerConfig& indexer = config.indexer;
  indexer.topk = json.required_int("index_topk", 0);
  if (indexer.topk > config.max_positions)
    json.reject("index_topk", fmt::format("at most max_position_embeddings = {}", config.max_positions));
  if (indexer.topk == 0 && !is_never_empty(config.pattern))
    json.reject("index_topk",
                "at least 1 (0 only beside an index_fixed_pattern that selects something in every row)");

  config.plan = read_share_plan(json, config.num_layers);
  if (indexer.topk == 0) {  // the fixed positions are the same in every layer: layer 0 finds them for all
    config.plan = SharePlan::from_pattern("F" + std::string(static_cast<size_t>(config.num_layers) - 1, 'S'),
                                          config.num_layers, "index_topk_pattern");
    return;
  }
  indexer.num_heads = json.required_int("index_n_heads", 1, kMaxIndexHeads);
  indexer.head_dim = json.required_int("index_head_dim", 1, kMaxIndexHeadDim);
  if (indexer.head_dim < config.rope_dim)
    json.reject("index_head_dim", fmt::format("at least qk_rope_head_dim = {}", config.rope_dim));
  indexer.rope_layout = defaults.indexer_rope_layout;
  if (const auto interleave = json.optional_bool("indexer_rope_interleave"))
    indexer.rope_layout = *interleave ? RopeLayout::interleaved : RopeLayout::half_split;
}

}  // namespace indexshare
