// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backend/backend.h"

namespace indexshare {

/// Anonymous memory straight from the kernel: zero until written, physical only where touched.
class MappedBuffer final : public Buffer {
 public:
  /// @throws Error{out_of_memory}
  explicit MappedBuffer(size_t num_bytes);
  ~MappedBuffer() override;
  MappedBuffer(const MappedBuffer&) = delete;
  MappedBuffer& operator=(const MappedBuffer&) = delete;

  void* data() override { return data_; }
  size_t num_bytes() const override { return num_bytes_; }

 private:
  void* data_ = nullptr;  // nullptr where num_bytes_ == 0
  size_t num_bytes_;
};

}  // namespace indexshare
