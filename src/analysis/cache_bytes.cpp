// SPDX-License-Identifier: Apache-2.0
#include "analysis/cache_bytes.h"

#include "cache/paged_cache.h"

namespace indexshare {

CacheBytes cache_bytes_per_token(const ModelConfig& config, RowFormat latents, RowFormat index_keys) {
  const std::unique_ptr<Backend> backend = make_backend("cpu", 1);
  const auto bytes = [&](int num_layers, int num_indexers) {
    return cache_bytes_per_token(CacheConfig{.num_layers = num_layers,
                                             .num_index_slots = config.indexer.topk > 0 ? num_indexers : 0,
                                             .latent_row_dim = config.latent_row_dim(),
                                             .index_key_dim = config.indexer.head_dim,
                                             .rope_dim = config.rope_dim,
                                             .latent_format = latents,
                                             .index_key_format = index_keys},
                                 *backend);
  };
  const CacheBytesPerToken shared = bytes(config.num_layers, config.plan.num_full());
  const CacheBytesPerToken mtp = bytes(config.num_mtp_layers, config.num_mtp_layers);
  const CacheBytesPerToken every_layer = bytes(config.num_layers, config.num_layers);
  return {.mla = static_cast<int64_t>(shared.latents),
          .index_keys = static_cast<int64_t>(shared.index_keys),
          .index_keys_every_layer = static_cast<int64_t>(every_layer.index_keys),
          .mtp_mla = static_cast<int64_t>(mtp.latents),
          .mtp_index_keys = static_cast<int64_t>(mtp.index_keys)};
}

}  // namespace indexshare
