// SPDX-License-Identifier: Apache-2.0
// NumPy's .npy files, read strictly (versions 1 to 3, C order, no trailing bytes), and written to a temporary
// file that takes its name only once it is complete.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace indexshare::cli {

struct IntArray {
  std::vector<int64_t> shape;
  std::vector<int32_t> values;  // row-major
};

/// Any integer type, as long as the values fit int32. @throws UsageError naming the file and what is wrong
/// with it.
IntArray read_int_npy(const std::string& path, size_t num_dims);

/// The header of a C-ordered array, magic and padding included. @param descr such as "<f4".
std::string npy_header(const std::string& descr, std::span<const int64_t> shape);

/// A file of 4-byte elements whose shape is known in advance. It appears under its name at commit(); until
/// then, and if that never comes, only a temporary file beside it exists. What is no regular file (/dev/null)
/// is written directly.
class NpyWriter {
 public:
  /// @throws UsageError where the file cannot be created, std::runtime_error where the disk is too small.
  NpyWriter(std::string path, const std::string& descr, std::vector<int64_t> shape);
  ~NpyWriter();
  NpyWriter(const NpyWriter&) = delete;
  NpyWriter& operator=(const NpyWriter&) = delete;

  void append(const void* data, size_t num_elements);
  void write_at(int64_t element, const void* data, size_t num_elements);
  void commit();

 private:
  [[noreturn]] void fail(const char* doing) const;
  void check_space() const;

  std::string path_, written_path_;  // the same where the file is written directly
  int64_t header_bytes_ = 0, num_elements_ = 1, next_element_ = 0;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> file_{nullptr, &std::fclose};
};

}  // namespace indexshare::cli
