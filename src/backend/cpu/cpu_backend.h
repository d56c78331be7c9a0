// SPDX-License-Identifier: Apache-2.0
// The backend that needs nothing but a CPU. Kernels are compiled for AVX-512, AVX2 and plain C++ (Highway)
// and one version is chosen when the backend is made; INDEXSHARE_FORCE_KERNEL = amx | vnni | avx512 | avx2 |
// scalar forces one (kernel_path.h). Within one version every reduction has one order, whatever the number of
// rows and threads.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/kernel_path.h"
#include "backend/cpu/memory.h"
#include "backend/cpu/product.h"
#include "base/thread_pool.h"

namespace indexshare {

/// What one thread does of sparse_attention(): chunks that begin at keys [low, high) of all rows' lists.
struct AttentionShare {
  int64_t low = 0, high = 0;
  float* states = nullptr;  // of the row cut by its end, and of the tails; sparse_attention.cpp
};

class CpuBackend final : public Backend {
 public:
  CpuBackend(KernelPath path, int threads);

  std::string description() const override;
  std::string note() const override { return path_.note; }

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

 private:
  /// All products in one parallel region; linear() and experts() end here.
  void multiply(std::span<Product> products);
  /// Sets Product::converted where the weight wants it, in scratch_.
  void convert_activations(std::span<Product> products);

  /// body(begin, end, worker) over [0, count), in this thread where there is less than two grains of work.
  template <class Body>
  void parallel(int64_t count, int64_t grain, const Body& body) {
    if (count < 2 * std::max<int64_t>(grain, 1)) {
      if (count > 0) body(int64_t{0}, count, 0);
    } else {
      pool_.parallel_for(count, grain, std::cref(body));
    }
  }

  KernelPath path_;
  ThreadPool pool_;
  WeightArena weights_;
  std::vector<Scratch> worker_scratch_;  // [threads], for the kernels
  Scratch scratch_;                      // what the workers of one op share
  Scratch rows_scratch_;                 // experts(): grouped rows
  std::vector<Product> products_;
  std::vector<AttentionShare> attention_shares_;
};

/// @param threads 0 = what the process may use.
std::unique_ptr<Backend> make_cpu_backend(int threads);

}  // namespace indexshare
