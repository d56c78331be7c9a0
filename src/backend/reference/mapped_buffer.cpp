// SPDX-License-Identifier: Apache-2.0
#include "backend/reference/mapped_buffer.h"

#include <sys/mman.h>

#include "base/check.h"

namespace indexshare {

MappedBuffer::MappedBuffer(size_t num_bytes) : num_bytes_(num_bytes) {
  if (num_bytes == 0) return;
  void* memory =
      mmap(nullptr, num_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) fail(ErrorCode::out_of_memory, "cannot allocate {} bytes", num_bytes);
  data_ = memory;
}

MappedBuffer::~MappedBuffer() {
  if (data_) munmap(data_, num_bytes_);
}

}  // namespace indexshare
