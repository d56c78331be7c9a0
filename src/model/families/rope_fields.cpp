// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "base/check.h"
#include "model/families/config_fields.h"

namespace indexshare {

namespace {

// rope_type of transformers 5, type of older files.
std::string rope_type(const JsonObject& rope) {
  return rope.optional_string("rope_type").value_or(rope.optional_string("type").value_or("default"));
}

double read_theta(const JsonObject& json, const std::optional<JsonObject>& rope) {
  constexpr double kMinTheta = 1, kMaxTheta = 1e12;
  const auto inner = rope ? rope->optional_double("rope_theta", kMinTheta, kMaxTheta) : std::nullopt;
  const auto outer = json.optional_double("rope_theta", kMinTheta, kMaxTheta);
  if (inner && outer && *inner != *outer)
    json.reject("rope_theta", fmt::format("{} as {} says", *inner, rope->path_of("rope_theta")));
  if (inner) return *inner;
  return json.required_double("rope_theta", kMinTheta, kMaxTheta);
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

// What cos and sin are multiplied with, as transformers: DeepSeek's two mscales are equal, which makes it 1.
double cos_sin_amplitude(const JsonObject& yarn, double factor, double mscale, double mscale_all_dim) {
  if (const auto given = yarn.optional_double("attention_factor", 1e-6, 1e6)) return *given;
  if (mscale != 0 && mscale_all_dim != 0)
    return yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim);
  return yarn_mscale(factor, 1);
}

/// @return what the softmax scale is multiplied with
double read_yarn(const JsonObject& yarn, int64_t max_positions, RopeConfig& rope) {
  rope.yarn_factor = yarn.required_double("factor", 1, 1e6);
  rope.yarn_original_positions =
      yarn.optional_int("original_max_position_embeddings", 1, int64_t{1} << 31).value_or(max_positions);
  rope.yarn_beta_fast = yarn.optional_double("beta_fast", 1e-6, 1e6).value_or(rope.yarn_beta_fast);
  rope.yarn_beta_slow = yarn.optional_double("beta_slow", 1e-6, 1e6).value_or(rope.yarn_beta_slow);
  rope.yarn_truncate = yarn.optional_bool("truncate").value_or(true);
  if (rope.theta <= 1) yarn.reject("rope_theta", "a number above 1");
  const double mscale = yarn.optional_double("mscale", 0, 100).value_or(0);
  const double mscale_all_dim = yarn.optional_double("mscale_all_dim", 0, 100).value_or(0);
  rope.yarn_amplitude = cos_sin_amplitude(yarn, rope.yarn_factor, mscale, mscale_all_dim);
  const double logit_amplitude = mscale_all_dim != 0 ? yarn_mscale(rope.yarn_factor, mscale_all_dim) : 1;
  return logit_amplitude * logit_amplitude;
}

}  // namespace

void read_rope(const JsonObject& json, ModelConfig& config) {
  // An older key laid over a newer file wins, as in transformers.
  auto rope = json.optional_object("rope_scaling");
  if (!rope) rope = json.optional_object("rope_parameters");
  if (rope && !rope->has("rope_theta") && json.has("rope_parameters") && json.has("rope_scaling")) {
    config.rope.theta = read_theta(json, json.optional_object("rope_parameters"));
  } else {
    config.rope.theta = read_theta(json, rope);
  }
  for (const JsonObject& place : {json, rope.value_or(json)})
    if (place.optional_double("partial_rotary_factor").value_or(1) != 1)
      place.reject("partial_rotary_factor", "1");

  double softmax_factor = 1;
  if (rope) {
    const std::string type = rope_type(*rope);
    if (type == "yarn") {
      softmax_factor = read_yarn(*rope, config.max_positions, config.rope);
    } else if (type != "default") {
      rope->reject(rope->has("rope_type") ? "rope_type" : "type", "\"default\" or \"yarn\"");
    }
  }
  config.softmax_scale = static_cast<float>(softmax_factor / std::sqrt(static_cast<double>(config.qk_dim())));
}

}  // namespace indexshare
