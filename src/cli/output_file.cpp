// SPDX-License-Identifier: Apache-2.0
#include "output_file.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <stdexcept>

#include "exit_codes.h"

namespace indexshare::cli {
namespace {

bool is_replaced(const std::string& path) {
  struct stat status = {};
  return stat(path.c_str(), &status) != 0 || S_ISREG(status.st_mode);
}

std::string temporary_name(const std::string& path) { return fmt::format("{}.{}.tmp", path, getpid()); }

std::FILE* open_for_writing(const std::string& written, const std::string& path) {
  std::FILE* file = std::fopen(written.c_str(), "wb");
  if (file == nullptr) throw UsageError(fmt::format("cannot write {}: {}", path, std::strerror(errno)));
  return file;
}

}  // namespace

void write_file(const std::string& path, std::string_view text) {
  const bool replaced = is_replaced(path);
  const std::string written = replaced ? temporary_name(path) : path;
  std::FILE* file = open_for_writing(written, path);
  bool good = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  good = std::fclose(file) == 0 && good;
  good = good && (!replaced || std::rename(written.c_str(), path.c_str()) == 0);
  if (good) return;
  const int error = errno;
  if (replaced) unlink(written.c_str());
  throw std::runtime_error(fmt::format("writing {}: {}", path, std::strerror(error)));
}

void check_writable(const std::string& path) {
  if (!is_replaced(path)) return;
  const std::string written = temporary_name(path);
  std::fclose(open_for_writing(written, path));
  unlink(written.c_str());
}

}  // namespace indexshare::cli
