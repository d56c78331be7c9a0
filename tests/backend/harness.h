// SPDX-License-Identifier: Apache-2.0
// What every op test shares: the backends by name, random values, weights of any dtype, paged caches with
// permuted page tables, comparison with a twin in double, and the batch-invariance check.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <iosfwd>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace indexshare {

/// Suite parameter: the backend's name. Skips visibly where this build or machine lacks the backend.
class OpTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override;
  std::unique_ptr<Backend> backend;
};

std::vector<std::string> backend_names();
std::string parameter_name(const testing::TestParamInfo<std::string>& info);

/// The same numbers on every machine.
class Rng {
 public:
  explicit Rng(uint64_t seed) : state_(seed) {}
  uint64_t bits();
  int64_t integer(int64_t low, int64_t high);  // low <= value <= high
  float uniform(float low, float high);
  std::vector<float> uniforms(int64_t count, float low = -1, float high = 1);
  std::vector<float> integers(int64_t count, int64_t low, int64_t high);
  std::vector<int32_t> permutation(int64_t count);  // of 0 .. count-1

 private:
  uint64_t state_;
};

/// What a weight is made of, how it is kept and how its products take the other factor.
struct WeightKind {
  DType dtype = DType::f32;
  WeightFormat format = WeightFormat::as_stored;
  int activation_bits = 32;
};
std::ostream& operator<<(std::ostream& out, const WeightKind& kind);

/// A random weight with its own storage; at() gives the value as kept, dequantised, in double.
class HostMatrix {
 public:
  HostMatrix(const WeightKind& kind, int64_t rows, int64_t cols, Rng& rng, bool transpose = false);
  HostMatrix(DType dtype, int64_t rows, int64_t cols, Rng& rng, bool transpose = false)
      : HostMatrix(WeightKind{dtype}, rows, cols, rng, transpose) {}
  MatrixSource source() const;
  std::unique_ptr<Matrix> load(Backend& backend) const { return backend.load_matrix(source()); }
  int64_t out_dim() const { return transpose_ ? cols_ : rows_; }
  int64_t in_dim() const { return transpose_ ? rows_ : cols_; }
  double at(int64_t out, int64_t in) const;

 private:
  double stored(int64_t out, int64_t in) const;
  void quantise();

  WeightKind kind_;
  DType dtype_;
  int64_t rows_, cols_;
  bool transpose_;
  std::vector<std::byte> bytes_;
  std::vector<float> scales_;     // [ceil(rows/128), ceil(cols/128)], f8 only
  std::vector<float> quantised_;  // [out, in] what the codes stand for, int8 and int4 only
};

/// `value` as a cache of this format keeps it.
float rounded_to(RowFormat format, float value);

/// Pages of one layer for sequences of the given lengths, handed out in random order.
class TestCache {
 public:
  enum class Kind { latents, index_keys };
  static constexpr int64_t kFarPage = int64_t{1} << 19;
  struct Shape {
    RowFormat format = RowFormat::f32;
    int64_t page_size = 16, row_dim = 8;
    // Odd sequences have their pages from here on where > 0. kFarPage: a product cut to 32 bits, of bytes or
    // of elements, takes them for the pages of even ones where a page has 2^13 elements.
    int64_t far_page = 0;
    int64_t bf16_tail = 0;  // of int8 latents
  };

  TestCache(Backend& backend, const Shape& shape, std::vector<int64_t> lengths, Rng& rng);

  /// Writes rows [num_rows, row_dim] at positions first_position, ...
  void write(Kind kind, int64_t sequence, int64_t first_position, const std::vector<float>& rows);
  SequenceRows rows(int64_t sequence, int64_t row_begin, int64_t num_rows, int64_t first_position) const;
  int64_t slot(int64_t sequence, int64_t position) const;

  CachePages pages;

 private:
  Backend& backend_;
  std::vector<std::vector<int32_t>> tables_;
  std::unique_ptr<Buffer> buffer_;
};

/// Page sizes of the list that the backend accepts for this format and row.
std::vector<int64_t> supported_page_sizes(const Backend& backend, RowFormat format, int64_t row_dim,
                                          std::vector<int64_t> wanted = {1, 16, 61, 64});

/// max|actual - expected| / max|expected|; infinite where one of them is NaN or infinite and the other
/// differs.
double row_error(const float* actual, const std::vector<double>& expected);

/// The bit patterns of floats or integers, for exact comparison.
std::vector<uint32_t> bits_of(const float* values, int64_t count);
std::vector<uint32_t> bits_of(const int32_t* values, int64_t count);

/// Runs an op on the listed rows of a fixed problem, in that order, and returns the output of each.
using RunRows = std::function<std::vector<std::vector<uint32_t>>(Backend&, const std::vector<int64_t>& rows)>;

/// The outputs of rows 0 .. num_rows-1 are bitwise the same all together, in reverse, shuffled, in parts and
/// alone, with 1, 2 and 3 threads.
void expect_batch_invariant(const std::string& backend_name, int64_t num_rows, const RunRows& run);

}  // namespace indexshare

#define INSTANTIATE_FOR_BACKENDS(Suite)                                                       \
  INSTANTIATE_TEST_SUITE_P(Backends, Suite, testing::ValuesIn(::indexshare::backend_names()), \
                           ::indexshare::parameter_name)
