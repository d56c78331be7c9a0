// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/cpu_backend.h"

#include <cstdlib>

#include "backend/cpu/index_keys.h"
#include "backend/cpu/latents.h"
#include "backend/cpu/packed_matrix.h"
#include "backend/cpu/product.h"
#include "base/check.h"

namespace indexshare {

CpuBackend::CpuBackend(KernelPath path, int threads)
    : path_(std::move(path)), pool_(threads), worker_scratch_(static_cast<size_t>(pool_.size())) {}

std::string CpuBackend::description() const {
  const char* plural = pool_.size() == 1 ? "" : "s";
  return fmt::format("cpu ({}, {} thread{})", path_.name, pool_.size(), plural);
}

std::unique_ptr<Buffer> CpuBackend::allocate(size_t num_bytes) {
  return std::make_unique<CpuBuffer>(num_bytes);
}

std::unique_ptr<Matrix> CpuBackend::load_matrix(const MatrixSource& source) {
  if (source.lookup_only) return std::make_unique<MappedMatrix>(source);
  return std::make_unique<PackedMatrix>(source, pool_, weights_, path_.tiles);
}

size_t CpuBackend::latent_page_bytes(const CachePages& rows) const { return LatentLayout(rows).page_bytes; }

size_t CpuBackend::index_key_page_bytes(const CachePages& rows) const {
  return IndexKeyLayout(rows).page_bytes;
}

std::unique_ptr<Backend> make_cpu_backend(int threads) {
  return std::make_unique<CpuBackend>(choose_kernel_path(std::getenv("INDEXSHARE_FORCE_KERNEL")), threads);
}

}  // namespace indexshare
