// SPDX-License-Identifier: Apache-2.0
#include "report.h"

namespace indexshare::cli {

Json flops_json(const Counters::Flops& flops) {
  return {{"projections", flops.projections},
          {"indexer_projections", flops.indexer_projections},
          {"index_scores", flops.index_scores},
          {"attention", flops.attention},
          {"mlp", flops.mlp},
          {"head", flops.head},
          {"total", flops.total()}};
}

Json seconds_json(const Counters::Seconds& seconds) {
  return {{"projections", seconds.projections},
          {"indexer_projections", seconds.indexer_projections},
          {"index_selection", seconds.index_selection},
          {"attention", seconds.attention},
          {"mlp", seconds.mlp},
          {"head", seconds.head},
          {"other", seconds.other}};
}

Json counters_json(const Counters& counters) {
  return {{"tokens", counters.tokens},
          {"forward_passes", counters.forward_passes},
          {"indexer_passes", counters.indexer_passes},
          {"flops", flops_json(counters.flops)}};
}

Json weights_json(const ModelInfo& info) {
  return {{"format", info.weights},
          {"activation_bits", info.activation_bits},
          {"bytes", info.weight_bytes},
          {"bytes_by_format", info.weight_bytes_by_format}};
}

Json cache_json(const ModelInfo& info) {
  return {{"dtype", info.kv_cache_dtype},
          {"index_dtype", info.index_cache_dtype},
          {"latent_bytes_per_token", info.latent_bytes_per_token},
          {"index_key_bytes_per_token", info.index_key_bytes_per_token}};
}

std::string plan_pattern(std::span<const int> source) {
  std::string pattern;
  for (size_t layer = 0; layer < source.size(); ++layer) {
    pattern += source[layer] == static_cast<int>(layer) ? 'F' : 'S';
  }
  return pattern;
}

}  // namespace indexshare::cli
