// SPDX-License-Identifier: Apache-2.0
// INDEXSHARE_FORCE_KERNEL: the forced instruction path is the one that runs, anything else is an error; the
// paths agree with each other to rounding. A run of all tests on a path that the machine lacks ends here.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "backend/cpu/cpu_backend.h"
#include "backend/harness.h"
#include "indexshare/error.h"
#include "tolerances.h"

namespace indexshare {
namespace {

constexpr const char* kVariable = "INDEXSHARE_FORCE_KERNEL";
constexpr int kSkipped = 77;  // SKIP_RETURN_CODE in CMakeLists.txt

// A run forced onto a path that the machine lacks ends as skipped. By its exit status: where words in the
// output decide, CTest takes even a failed run for a skipped one.
class SkipsWhatTheMachineLacks : public testing::Environment {
 public:
  void SetUp() override {
    try {
      choose_kernel_path(std::getenv(kVariable));
    } catch (const Error& error) {
      if (error.code() != ErrorCode::device) throw;
      std::puts(error.what());
      std::exit(kSkipped);
    }
  }
};
[[maybe_unused]] const auto* const kSkips = testing::AddGlobalTestEnvironment(new SkipsWhatTheMachineLacks);

/// Sets the variable for one scope and restores what was there.
class ForcedKernel {
 public:
  explicit ForcedKernel(const char* value) {
    if (const char* old = std::getenv(kVariable)) old_ = old;
    setenv(kVariable, value, 1);
  }
  ~ForcedKernel() { old_.empty() ? unsetenv(kVariable) : setenv(kVariable, old_.c_str(), 1); }

 private:
  std::string old_;
};

ErrorCode code_of_forcing(const char* value) {
  const ForcedKernel forced(value);
  try {
    make_cpu_backend(1);
  } catch (const Error& error) {
    return error.code();
  }
  return ErrorCode::internal;
}

// What the machine supports, by name.
std::vector<std::string> usable_paths() {
  std::vector<std::string> usable;
  for (const char* name : {"amx", "vnni", "avx512", "avx2", "scalar"}) try {
      choose_kernel_path(name);
      usable.push_back(name);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::device);
    }
  return usable;
}

std::vector<float> linear_result(const HostMatrix& weight, const std::vector<float>& x, int64_t num_rows) {
  const auto backend = make_cpu_backend(2);
  const auto matrix = weight.load(*backend);
  std::vector<float> y(num_rows * weight.out_dim());
  const LinearArgs args{x.data(), weight.in_dim(), matrix.get(), y.data(), weight.out_dim(), num_rows};
  backend->linear({&args, 1});
  return y;
}

TEST(CpuPaths, DescriptionNamesTheForcedPath) {
  for (const std::string& path : usable_paths()) {
    const ForcedKernel forced(path.c_str());
    EXPECT_EQ(make_cpu_backend(2)->description(), "cpu (" + path + ", 2 threads)");
  }
}

TEST(CpuPaths, OtherNamesAreErrors) {
  EXPECT_EQ(code_of_forcing("avx"), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of_forcing("AVX512"), ErrorCode::invalid_argument);
}

TEST(CpuPaths, EachTableHoldsAnotherKernel) {
  std::vector<size_t> indices;
  for (const std::string& path : usable_paths())
    if (path != "amx" && path != "vnni")  // those of avx512, and more
      indices.push_back(choose_kernel_path(path.c_str()).table_index);
  std::sort(indices.begin(), indices.end());
  EXPECT_EQ(std::unique(indices.begin(), indices.end()), indices.end());
}

// Plain C++ rounds each product, the others fuse it: results that differ in bits show that another path ran.
TEST(CpuPaths, ScalarDiffersFromOthersInRoundingOnly) {
  Rng rng(5);
  const HostMatrix weight(DType::bf16, 72, 300, rng);
  const std::vector<float> x = rng.uniforms(3 * 300);
  std::vector<std::vector<float>> results;
  for (const std::string& path : usable_paths()) {
    const ForcedKernel forced(path.c_str());
    results.push_back(linear_result(weight, x, 3));
  }
  for (size_t i = 1; i < results.size(); ++i) {
    const std::vector<double> first(results[0].begin(), results[0].end());
    EXPECT_LE(row_error(results[i].data(), first), tolerance::kLinear);
  }
  if (results.size() > 1) {
    EXPECT_NE(results.front(), results.back());
  }
}

}  // namespace
}  // namespace indexshare
