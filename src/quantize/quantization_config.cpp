// SPDX-License-Identifier: Apache-2.0
#include "quantize/quantization_config.h"

#include <algorithm>

#include "backend/quantise.h"

namespace indexshare {

namespace {

Json group(const std::vector<std::string>& targets, int num_bits, int64_t group_size) {
  Json weights;
  weights["num_bits"] = num_bits;
  weights["type"] = "int";
  weights["symmetric"] = true;
  weights["strategy"] = "group";
  weights["group_size"] = group_size;
  Json group;
  group["targets"] = targets;
  group["weights"] = std::move(weights);
  return group;
}

// "model.layers.3.mlp.gate" stands for that of every layer: "re:model\.layers\.\d+\.mlp\.gate$".
std::string pattern_of(const std::string& name) {
  std::string pattern = "re:";
  for (size_t i = 0; i < name.size(); ++i) {
    const bool is_digit = name[i] >= '0' && name[i] <= '9';
    const bool starts_number = is_digit && i > 0 && name[i - 1] == '.';
    if (starts_number && name.find_first_not_of("0123456789", i) == name.find('.', i)) {
      pattern += "\\d+";
      i = std::min(name.find('.', i), name.size()) - 1;
    } else {
      pattern += name[i] == '.' ? "\\." : std::string(1, name[i]);
    }
  }
  return pattern + "$";
}

}  // namespace

Json quantization_config(WeightFormat format, const std::vector<std::string>& kept) {
  Json groups;
  if (format == WeightFormat::int4) {
    groups["group_0"] = group({"Linear"}, 4, kInt4WeightGroup);
    // Names go before classes.
    groups["group_1"] = group({"re:.*\\.indexer\\.(wq_b|wk)$", "lm_head"}, 8, kInt8WeightGroup);
  } else {
    groups["group_0"] = group({"Linear"}, 8, kInt8WeightGroup);
  }
  std::vector<std::string> ignore;
  for (const std::string& name : kept)
    if (const std::string pattern = pattern_of(name); std::ranges::find(ignore, pattern) == ignore.end())
      ignore.push_back(pattern);
  Json config;
  config["quant_method"] = "compressed-tensors";
  config["format"] = "pack-quantized";
  config["quantization_status"] = "compressed";
  config["config_groups"] = std::move(groups);
  config["ignore"] = std::move(ignore);
  return config;
}

}  // namespace indexshare
