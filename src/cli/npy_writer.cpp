// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "exit_codes.h"
#include "npy.h"
#include "terminal.h"

namespace indexshare::cli {
namespace {

constexpr size_t kAlignment = 64;  // of the data, as numpy writes it
constexpr int64_t kElementBytes = 4;

}  // namespace

std::string npy_header(const std::string& descr, std::span<const int64_t> shape) {
  std::string dims;
  for (const int64_t size : shape) dims += fmt::format("{}, ", size);
  if (shape.size() > 1) dims.resize(dims.size() - 2);
  if (shape.size() == 1) dims.resize(dims.size() - 1);  // "(3,)"
  std::string dict = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}), }}", descr, dims);
  constexpr size_t kPrefix = 10;
  const size_t total = (kPrefix + dict.size() + 1 + kAlignment - 1) / kAlignment * kAlignment;
  dict.append(total - kPrefix - dict.size() - 1, ' ');
  dict += '\n';
  const auto length = static_cast<uint16_t>(dict.size());
  std::string header("\x93NUMPY\x01\x00", 8);
  header += static_cast<char>(length & 0xFF);
  header += static_cast<char>(length >> 8);
  return header + dict;
}

NpyWriter::NpyWriter(std::string path, const std::string& descr, std::vector<int64_t> shape)
    : path_(std::move(path)), written_path_(path_) {
  struct stat status = {};
  const bool exists = stat(path_.c_str(), &status) == 0;
  if (!exists || S_ISREG(status.st_mode)) written_path_ += fmt::format(".{}.tmp", getpid());
  file_.reset(std::fopen(written_path_.c_str(), "wb"));
  if (!file_) throw UsageError(fmt::format("cannot write {}: {}", path_, std::strerror(errno)));
  for (const int64_t size : shape) num_elements_ *= size;
  const std::string header = npy_header(descr, shape);
  header_bytes_ = static_cast<int64_t>(header.size());
  try {
    check_space();
    if (std::fwrite(header.data(), 1, header.size(), file_.get()) != header.size()) fail("writing");
  } catch (...) {
    if (written_path_ != path_) unlink(written_path_.c_str());
    throw;
  }
}

NpyWriter::~NpyWriter() {
  if (!file_) return;
  file_.reset();
  if (written_path_ != path_) unlink(written_path_.c_str());
}

void NpyWriter::check_space() const {
  if (written_path_ == path_) return;
  std::error_code error;
  const auto space = std::filesystem::space(std::filesystem::absolute(written_path_).parent_path(), error);
  const auto needed = static_cast<uintmax_t>(header_bytes_ + num_elements_ * kElementBytes);
  if (!error && space.available < needed) {
    throw std::runtime_error(fmt::format("{} needs {}, its disk has {} left", path_,
                                         human_bytes(static_cast<double>(needed)),
                                         human_bytes(static_cast<double>(space.available))));
  }
}

void NpyWriter::fail(const char* doing) const {
  throw std::runtime_error(fmt::format("{} {}: {}", doing, path_, std::strerror(errno)));
}

void NpyWriter::append(const void* data, size_t num_elements) {
  if (std::fwrite(data, kElementBytes, num_elements, file_.get()) != num_elements) fail("writing");
  next_element_ += static_cast<int64_t>(num_elements);
}

void NpyWriter::write_at(int64_t element, const void* data, size_t num_elements) {
  if (fseeko(file_.get(), header_bytes_ + element * kElementBytes, SEEK_SET) != 0) fail("seeking in");
  if (std::fwrite(data, kElementBytes, num_elements, file_.get()) != num_elements) fail("writing");
  next_element_ += static_cast<int64_t>(num_elements);
}

void NpyWriter::commit() {
  if (next_element_ != num_elements_) {
    throw std::logic_error(fmt::format("{}: {} of {} elements written", path_, next_element_, num_elements_));
  }
  if (std::fflush(file_.get()) != 0) fail("writing");
  if (std::FILE* file = file_.release(); std::fclose(file) != 0) {
    if (written_path_ != path_) unlink(written_path_.c_str());
    fail("writing");
  }
  if (written_path_ != path_ && std::rename(written_path_.c_str(), path_.c_str()) != 0) {
    unlink(written_path_.c_str());
    fail("renaming to");
  }
}

}  // namespace indexshare::cli
