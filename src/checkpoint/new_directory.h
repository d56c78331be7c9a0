// SPDX-License-Identifier: Apache-2.0
// NewDirectory: a directory that appears under its name complete or not at all. It is filled beside its place
// under another name and renamed at the end; on an exception what was written is removed.
#pragma once

#include <filesystem>
#include <string>

namespace indexshare {

class NewDirectory {
 public:
  /// @param replace a model directory that stands at `target` is replaced; otherwise only an empty one is.
  /// @throws Error{invalid_argument} where something else is in the way, Error{io}.
  NewDirectory(const std::filesystem::path& target, bool replace);
  ~NewDirectory();
  NewDirectory(const NewDirectory&) = delete;
  NewDirectory& operator=(const NewDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }  // to be filled
  void commit();                                               // @throws Error{io}, `target` as it was

 private:
  std::filesystem::path target_, path_;
};

/// @throws Error{io} with what errno says.
[[noreturn]] void fail_to_write(const std::filesystem::path& path);

/// The whole file, on disk. @throws Error{io}.
void write_text_file(const std::filesystem::path& path, const std::string& text);

}  // namespace indexshare
