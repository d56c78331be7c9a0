// SPDX-License-Identifier: Apache-2.0
// Checkpoints, good and bad, in a folder that goes away with the test, and what a rejection must look like.
#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdint>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "indexshare/error.h"
#include "temp_dir.h"

namespace indexshare::test {

inline void write_file(const std::filesystem::path& path, const std::string& bytes) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary) << bytes;
}

/// The bytes of a safetensors file with this header, as it stands, and this data.
inline std::string safetensors(const std::string& header, const std::string& data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>((uint64_t{header.size()} >> (8 * i)) & 0xff);
  return bytes + header + data;
}

/// `"name":{"dtype":…,"shape":[…],"data_offsets":[begin,end]}`.
inline std::string tensor_entry(const std::string& name, const std::string& dtype, const std::string& shape,
                                int64_t begin, int64_t end) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":[" +
         std::to_string(begin) + "," + std::to_string(end) + "]}";
}

struct NamedTensor {
  std::string name, dtype;     // dtype as the format spells it
  std::vector<int64_t> shape;  // the data are zeros
};

/// A well-formed file of zeros.
inline std::string safetensors_of(const std::vector<NamedTensor>& tensors) {
  std::string header = "{\"__metadata__\":{\"format\":\"pt\"}";
  int64_t offset = 0;
  for (const NamedTensor& tensor : tensors) {
    int64_t bytes = tensor.dtype == "F32" ? 4 : tensor.dtype == "BF16" || tensor.dtype == "F16" ? 2 : 1;
    std::string shape;
    for (const int64_t dim : tensor.shape) {
      bytes *= dim;
      shape += (shape.empty() ? "" : ",") + std::to_string(dim);
    }
    header += "," + tensor_entry(tensor.name, tensor.dtype, "[" + shape + "]", offset, offset + bytes);
    offset += bytes;
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return safetensors(header, std::string(static_cast<size_t>(offset), '\0'));
}

inline std::string error_of(const std::function<void()>& action, ErrorCode code = ErrorCode::unsupported) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "expected an Error";
  return "";
}

/// One printable sentence, not long, that contains every one of `parts`.
inline void expect_sentence(const std::string& message, std::initializer_list<std::string> parts) {
  for (const std::string& part : parts)
    EXPECT_NE(message.find(part), std::string::npos) << part << " | " << message;
  EXPECT_LT(message.size(), 700u) << message;
  for (const char c : message) EXPECT_GE(static_cast<unsigned char>(c), 0x20) << message;
}

/// Every test of a bad input ends within a second of processor time (others may share the machine) and
/// without much memory.
class BadInput : public ::testing::Test {
 protected:
  void SetUp() override {
    start_ = std::clock();
    start_kib_ = peak_kib();
  }
  void TearDown() override {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    constexpr double kMaxSeconds = 10;
#else
    constexpr double kMaxSeconds = 1;
    EXPECT_LT(peak_kib() - start_kib_, 200 * 1024);
#endif
    EXPECT_LT(static_cast<double>(std::clock() - start_) / CLOCKS_PER_SEC, kMaxSeconds);
  }

 private:
  static long peak_kib() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
  }

  std::clock_t start_ = 0;
  long start_kib_ = 0;
};

}  // namespace indexshare::test
