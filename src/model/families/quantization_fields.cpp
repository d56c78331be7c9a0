// SPDX-License-Identifier: Apache-2.0
// quantization_config: FP8 e4m3 in blocks of 128x128 (DeepSeek's), or pack-quantized int8 and int4 weights
// (compressed-tensors' W8A16 and W4A16). Everything else is refused by name.
#include <algorithm>

#include "base/check.h"
#include "model/families/config_fields.h"

namespace indexshare {

namespace {

// The names that transformers gives to the types a weight can be stored in here.
std::string read_dtype(const JsonObject& json, std::string_view key) {
  std::string dtype = json.required_string(key);
  if (dtype != "float32" && dtype != "float16" && dtype != "bfloat16" && dtype != "float8_e4m3fn")
    json.reject(key, "\"float32\", \"float16\", \"bfloat16\" or \"float8_e4m3fn\"");
  return dtype;
}

void read_fp8(const JsonObject& json, ModelConfig& config) {
  if (json.optional_string("fmt").value_or("e4m3") != "e4m3") json.reject("fmt", "\"e4m3\"");
  if (json.required_int_list("weight_block_size") != std::vector<int64_t>{128, 128})
    json.reject("weight_block_size", "[128, 128]");
  config.weights_dtype = "fp8";
}

PackedScheme read_scheme(const JsonObject& weights) {
  PackedScheme scheme;
  const int64_t bits = weights.required_int("num_bits");
  if (bits != 4 && bits != 8) weights.reject("num_bits", "4 or 8");
  scheme.num_bits = static_cast<int>(bits);
  if (weights.optional_string("type").value_or("int") != "int") weights.reject("type", "\"int\"");
  if (!weights.optional_bool("symmetric").value_or(true)) weights.reject("symmetric", "true");
  const std::string strategy = weights.required_string("strategy");
  if (strategy != "group" && strategy != "channel") weights.reject("strategy", "\"group\" or \"channel\"");
  scheme.group_size = strategy == "channel" ? 0 : weights.required_int("group_size", 8, int64_t{1} << 31);
  // Columns put into another order come with a g_idx tensor, which the weights themselves show.
  if (weights.optional_string("actorder").value_or("static") == "group")
    weights.reject("actorder", "null, \"static\" or \"weight\"");
  return scheme;
}

void read_packed(const JsonObject& json, ModelConfig& config) {
  if (json.required_string("format") != "pack-quantized") json.reject("format", "\"pack-quantized\"");
  if (const auto sparsity = json.optional_object("sparsity_config"))
    if (sparsity->optional_string("format").value_or("dense") != "dense")
      sparsity->reject("format", "\"dense\"");
  const JsonObject groups = json.required_object("config_groups");
  constexpr size_t kMaxGroups = 16;
  if (groups.json().empty() || groups.json().size() > kMaxGroups)
    json.reject("config_groups", "1 to 16 groups");
  for (const auto& [name, unused] : groups.json().items()) {
    const JsonObject group = groups.required_object(name);
    for (const char* activations : {"input_activations", "output_activations"})
      if (group.has(activations)) group.reject(activations, "null (weights alone are quantised)");
    if (group.optional_string("format").value_or("pack-quantized") != "pack-quantized")
      group.reject("format", "\"pack-quantized\"");
    const PackedScheme scheme = read_scheme(group.required_object("weights"));
    if (std::ranges::find(config.packed_schemes, scheme) == config.packed_schemes.end())
      config.packed_schemes.push_back(scheme);
  }
  // Of two formats the coarser: the finer one is for the few weights that are delicate.
  const int bits = std::ranges::min(config.packed_schemes, {}, &PackedScheme::num_bits).num_bits;
  config.weights_dtype = bits == 4 ? "int4" : "int8";
  if (json.has("kv_cache_scheme"))
    config.notes.push_back(
        "config.json: kv_cache_scheme is ignored: the cache's format is an option of the engine");
}

}  // namespace

void read_quantization(const JsonObject& json, ModelConfig& config) {
  for (const char* key : {"torch_dtype", "dtype"})  // the newer name wins
    if (json.has(key)) config.weights_dtype = read_dtype(json, key);
  if (json.has("compression_config"))
    json.reject("compression_config", "no such key (newer files say quantization_config)");
  const auto quantization = json.optional_object("quantization_config");
  if (!quantization) return;
  const std::string method = quantization->required_string("quant_method");
  if (method == "fp8") return read_fp8(*quantization, config);
  if (method == "compressed-tensors") return read_packed(*quantization, config);
  quantization->reject("quant_method",
                       "\"fp8\" (e4m3 in blocks of 128x128) or \"compressed-tensors\" (pack-quantized)");
}

}  // namespace indexshare
