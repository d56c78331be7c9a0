// SPDX-License-Identifier: Apache-2.0
#include "backend/reference/reference_backend.h"

#include "backend/reference/cached_rows.h"
#include "backend/reference/mapped_buffer.h"
#include "backend/reference/reference_matrix.h"

namespace indexshare {

std::unique_ptr<Backend> make_reference_backend() { return std::make_unique<ReferenceBackend>(); }

std::unique_ptr<Buffer> ReferenceBackend::allocate(size_t num_bytes) {
  return std::make_unique<MappedBuffer>(num_bytes);
}

std::unique_ptr<Matrix> ReferenceBackend::load_matrix(const MatrixSource& source) {
  return std::make_unique<ReferenceMatrix>(source);
}

size_t ReferenceBackend::latent_page_bytes(const CachePages& rows) const {
  return latent_layout(rows).row_bytes() * static_cast<size_t>(rows.page_size);
}

size_t ReferenceBackend::index_key_page_bytes(const CachePages& rows) const {
  return index_key_layout(rows).row_bytes() * static_cast<size_t>(rows.page_size);
}

}  // namespace indexshare
