// SPDX-License-Identifier: Apache-2.0
// Memory straight from the kernel: zero until written, physical only where touched, in huge pages where
// large.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include "backend/backend.h"

namespace indexshare {

class MappedMemory {
 public:
  MappedMemory() = default;
  /// @throws Error{out_of_memory}
  explicit MappedMemory(size_t num_bytes);
  ~MappedMemory();
  MappedMemory(MappedMemory&& other) noexcept { *this = std::move(other); }
  MappedMemory& operator=(MappedMemory&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(num_bytes_, other.num_bytes_);
    return *this;
  }

  std::byte* data() const { return data_; }  // nullptr where num_bytes() == 0
  size_t num_bytes() const { return num_bytes_; }

 private:
  std::byte* data_ = nullptr;
  size_t num_bytes_ = 0;
};

/// Zeroed memory of matrices, many in one mapping, so that small ones get huge pages too: with 4 KiB pages a
/// core reads weights at half the speed (measured with experts of 1.5 MiB). A mapping lives as long as its
/// last user.
class WeightArena {
 public:
  /// 64-byte aligned.
  std::shared_ptr<std::byte> allocate(size_t num_bytes);

 private:
  std::shared_ptr<MappedMemory> mapping_;
  size_t used_ = 0;
};

class CpuBuffer final : public Buffer {
 public:
  explicit CpuBuffer(size_t num_bytes) : memory_(num_bytes) {}
  void* data() override { return memory_.data(); }
  size_t num_bytes() const override { return memory_.num_bytes(); }

 private:
  MappedMemory memory_;
};

/// Working memory that grows and never shrinks, so that a token loop allocates nothing once it is warm.
class Scratch {
 public:
  /// At least `num_bytes`, 64-byte aligned; the contents of earlier calls are lost.
  std::byte* bytes(size_t num_bytes);
  float* floats(size_t count) { return reinterpret_cast<float*>(bytes(count * sizeof(float))); }

 private:
  MappedMemory memory_;
};

}  // namespace indexshare
