// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>

#include "base/check.h"

namespace indexshare {

namespace {
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kSmallPage = 4096;
size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }
}  // namespace

MappedMemory::MappedMemory(size_t num_bytes) {
  if (num_bytes == 0) return;
  const bool huge = num_bytes >= 2 * kHugePage;
  const size_t wanted = round_up(num_bytes, kSmallPage), mapped = wanted + (huge ? kHugePage : 0);
  void* memory = mapped < num_bytes ? MAP_FAILED
                                    : mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) fail(ErrorCode::out_of_memory, "cannot allocate {} bytes", num_bytes);
  data_ = static_cast<std::byte*>(memory);
  num_bytes_ = num_bytes;
  if (!huge) return;
  // Keep the part that starts at a huge page's boundary.
  const size_t begin = reinterpret_cast<uintptr_t>(data_) % kHugePage;
  const size_t skip = begin ? kHugePage - begin : 0;
  if (skip) munmap(data_, skip);
  data_ += skip;
  if (mapped > skip + wanted) munmap(data_ + wanted, mapped - skip - wanted);
  madvise(data_, wanted, MADV_HUGEPAGE);  // a hint: where refused, small pages do
}

MappedMemory::~MappedMemory() {
  if (data_) munmap(data_, round_up(num_bytes_, kSmallPage));
}

std::shared_ptr<std::byte> WeightArena::allocate(size_t num_bytes) {
  constexpr size_t kMapping = size_t{64} << 20;
  const size_t needed = round_up(num_bytes, 64);
  if (needed > kMapping / 4) {
    const auto own = std::make_shared<MappedMemory>(needed);
    return {own, own->data()};
  }
  if (!mapping_ || used_ + needed > kMapping) {
    mapping_ = std::make_shared<MappedMemory>(kMapping);
    used_ = 0;
  }
  std::byte* data = mapping_->data() + used_;
  used_ += needed;
  return {mapping_, data};
}

std::byte* Scratch::bytes(size_t num_bytes) {
  if (num_bytes > memory_.num_bytes()) {
    memory_ = MappedMemory();
    memory_ = MappedMemory(std::max(num_bytes + num_bytes / 4, 2 * kHugePage));
  }
  return memory_.data();
}

}  // namespace indexshare
