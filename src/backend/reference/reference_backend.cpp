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

size_t ReferenceBackend::page_bytes(RowFormat format, int64_t page_size, int64_t row_dim) const {
  return cached_row_bytes(format, row_dim) * static_cast<size_t>(page_size);
}

}  // namespace indexshare
