// SPDX-License-Identifier: Apache-2.0
// MappedFile: a regular file mapped read-only. Should the file shrink afterwards, the kernel answers a read
// of the lost pages with SIGBUS; as long as any MappedFile lives, a handler turns that into one sentence on
// stderr naming the file, and _exit(1). Faults elsewhere go to whatever handled SIGBUS before. This is the
// one place where the library prints and ends the process: there is no thread it could throw into.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

namespace indexshare {

class MappedFile {
 public:
  /// @throws Error{not_found} where the file is missing or unreadable, Error{unsupported} for a directory,
  /// FIFO or device, Error{out_of_memory} where it cannot be mapped.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  const std::byte* data() const { return data_; }  // nullptr where size() == 0
  size_t size() const { return size_; }            // at the time of mapping
  const std::filesystem::path& path() const { return path_; }

  /// Gives the memory of the whole pages inside [data, data + size) back to the kernel; a later read loads
  /// them again.
  void release(const std::byte* data, size_t size) const;

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace indexshare
