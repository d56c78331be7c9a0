// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "checkpoint/bus_error_guard.h"

namespace indexshare {

namespace {

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  // O_NONBLOCK: opening a FIFO must not wait for its writer.
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (file.get() < 0)
    fail(ErrorCode::not_found, "{}: cannot be opened: {}", path.string(), std::strerror(errno));
  struct stat status{};
  if (fstat(file.get(), &status) != 0)
    fail(ErrorCode::not_found, "{}: cannot be read: {}", path.string(), std::strerror(errno));
  if (!S_ISREG(status.st_mode))
    fail(ErrorCode::unsupported, "{}: expected a regular file, found a directory, FIFO or device",
         path.string());
  size_ = static_cast<size_t>(status.st_size);
  if (size_ == 0) return;
  void* mapping = mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.get(), 0);
  if (mapping == MAP_FAILED)
    fail(ErrorCode::out_of_memory, "{}: {} bytes cannot be mapped: {}", path.string(), size_,
         std::strerror(errno));
  data_ = static_cast<const std::byte*>(mapping);
  guard_mapping(data_, size_, path_.string());
}

MappedFile::~MappedFile() {
  if (!data_) return;
  unguard_mapping(data_);
  munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

void MappedFile::release(const std::byte* data, size_t size) const {
  ENSURE(data >= data_ && size <= size_ && static_cast<size_t>(data - data_) <= size_ - size,
         "{} bytes outside the mapping of {}", size, path_.string());
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + page - 1) / page * page;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + size) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace indexshare
