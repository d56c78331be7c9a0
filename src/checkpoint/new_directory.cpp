// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/new_directory.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace indexshare {

namespace fs = std::filesystem;

namespace {

void check_target(const fs::path& target, bool replace) {
  const auto refuse = [&](const char* expected, const char* found) {
    fail(ErrorCode::invalid_argument, "{}: expected {}, found {}", target.string(), expected, found);
  };
  if (!fs::is_directory(target.parent_path()))
    fail(ErrorCode::invalid_argument, "{}: expected a directory to write into, found none",
         target.parent_path().string());
  if (!fs::exists(fs::symlink_status(target))) return;
  if (fs::is_symlink(target) || !fs::is_directory(target))
    refuse("an empty directory or none", "something else");
  if (fs::is_empty(target)) return;
  if (!replace) refuse("an empty directory or none (--force replaces a model)", "one with files in it");
  if (!fs::exists(target / "config.json")) refuse("a model to replace", "a directory without config.json");
}

// "/models/.NAME.partial-1234": on the same disk, out of the way of whoever lists models.
fs::path beside(const fs::path& target, const char* what) {
  return target.parent_path() / fmt::format(".{}.{}-{}", target.filename().string(), what, getpid());
}

void sync_directory(const fs::path& path) {
  const int file = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0) fail_to_write(path);
  const bool synced = fsync(file) == 0 || errno == EINVAL;  // some file systems cannot
  close(file);
  if (!synced) fail_to_write(path);
}

}  // namespace

void fail_to_write(const fs::path& path) {
  fail(ErrorCode::io, "{}: cannot be written: {}", path.string(), std::strerror(errno));
}

void write_text_file(const fs::path& path, const std::string& text) {
  const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file < 0) fail_to_write(path);
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t count = ::write(file, text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    done += static_cast<size_t>(count);
  }
  const bool written = done == text.size() && fsync(file) == 0;
  const int error = errno;
  close(file);
  errno = error;
  if (!written) fail_to_write(path);
}

NewDirectory::NewDirectory(const fs::path& target, bool replace)
    : target_(fs::absolute(target).lexically_normal()) {
  if (!target_.has_filename()) target_ = target_.parent_path();  // "OUT/"
  check_target(target_, replace);
  const fs::path path = beside(target_, "partial");
  std::error_code error;
  if (!fs::create_directory(path, error))
    fail(ErrorCode::io, "{}: cannot be made: {}", path.string(), error ? error.message() : "it exists");
  path_ = path;
}

NewDirectory::~NewDirectory() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

void NewDirectory::commit() {
  sync_directory(path_);
  const fs::path old = beside(target_, "replaced");
  std::error_code error;
  const bool in_the_way = fs::exists(target_, error);
  if (in_the_way) fs::rename(target_, old, error);
  if (!error) fs::rename(path_, target_, error);
  if (error) {
    std::error_code ignored;
    if (in_the_way && fs::exists(old, ignored)) fs::rename(old, target_, ignored);
    fail(ErrorCode::io, "{}: cannot be renamed to {}: {}", path_.string(), target_.string(), error.message());
  }
  path_.clear();
  sync_directory(target_.parent_path());
  fs::remove_all(old, error);
}

}  // namespace indexshare
