// SPDX-License-Identifier: Apache-2.0
// The definition of every op: plain loops, one thread, f32 sums in ascending order. Slow on purpose; the
// other backends are held against it. Weights stay in the mapped file's own dtype and are dequantised as they
// are read.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "backend/backend.h"

namespace indexshare {

class ReferenceBackend final : public Backend {
 public:
  std::string description() const override { return "reference (plain loops, 1 thread)"; }

  std::unique_ptr<Buffer> allocate(size_t num_bytes) override;
  std::unique_ptr<Matrix> load_matrix(const MatrixSource& source) override;
  size_t latent_page_bytes(const CachePages& rows) const override;
  size_t index_key_page_bytes(const CachePages& rows) const override;

  void embed(const EmbedArgs& args) override;
  void linear(std::span<const LinearArgs> products) override;
  void rms_norm(const RmsNormArgs& args) override;
  void layer_norm(const LayerNormArgs& args) override;
  void rope(const RopeArgs& args) override;
  void silu_multiply(const SiluMultiplyArgs& args) override;
  void add(const AddArgs& args) override;
  void route(const RouteArgs& args) override;
  void experts(const ExpertsArgs& args) override;
  void write_latents(const WriteCacheArgs& args) override;
  void write_index_keys(const WriteCacheArgs& args) override;
  void read_latents(const ReadLatentsArgs& args) override;
  void index_select(const IndexSelectArgs& args) override;
  void translate(const TranslateArgs& args) override;
  void sparse_attention(const SparseAttentionArgs& args) override;
};

std::unique_ptr<Backend> make_reference_backend();

}  // namespace indexshare
