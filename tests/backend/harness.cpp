// SPDX-License-Identifier: Apache-2.0
#include "backend/harness.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <ostream>

#include "backend/quantise.h"
#include "indexshare/error.h"

namespace indexshare {

namespace {

constexpr int64_t kScaleBlock = 128;
int64_t num_blocks(int64_t n) { return (n + kScaleBlock - 1) / kScaleBlock; }

}  // namespace

void OpTest::SetUp() {
  try {
    backend = make_backend(GetParam(), 2);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::device) throw;
    GTEST_SKIP() << error.what();
  }
}

std::vector<std::string> backend_names() { return {"reference", "cpu"}; }

std::string parameter_name(const testing::TestParamInfo<std::string>& info) { return info.param; }

uint64_t Rng::bits() {  // splitmix64
  uint64_t z = state_ += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

int64_t Rng::integer(int64_t low, int64_t high) {
  return low + static_cast<int64_t>(bits() % static_cast<uint64_t>(high - low + 1));
}

float Rng::uniform(float low, float high) {
  return low + (high - low) * static_cast<float>(static_cast<double>(bits() >> 11) * 0x1p-53);
}

std::vector<float> Rng::uniforms(int64_t count, float low, float high) {
  std::vector<float> values(count);
  for (float& value : values) value = uniform(low, high);
  return values;
}

std::vector<float> Rng::integers(int64_t count, int64_t low, int64_t high) {
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(integer(low, high));
  return values;
}

std::vector<int32_t> Rng::permutation(int64_t count) {
  std::vector<int32_t> values(count);
  std::iota(values.begin(), values.end(), 0);
  for (int64_t i = count - 1; i > 0; --i) std::swap(values[i], values[integer(0, i)]);
  return values;
}

std::ostream& operator<<(std::ostream& out, const WeightKind& kind) {
  constexpr const char* kFormats[] = {"", " as int8", " as int4"};
  return out << dtype_name(kind.dtype) << kFormats[static_cast<size_t>(kind.format)] << ", "
             << kind.activation_bits << " bits";
}

HostMatrix::HostMatrix(const WeightKind& kind, int64_t rows, int64_t cols, Rng& rng, bool transpose)
    : kind_(kind),
      dtype_(kind.dtype),
      rows_(rows),
      cols_(cols),
      transpose_(transpose),
      bytes_(rows * cols * dtype_bytes(kind.dtype)) {
  const DType dtype = kind.dtype;
  if (dtype == DType::f8_e4m3) {
    scales_.resize(num_blocks(rows) * num_blocks(cols));
    for (float& scale : scales_) scale = rng.uniform(0.001f, 0.01f);
  }
  for (int64_t i = 0; i < rows * cols; ++i) {
    const float value = rng.uniform(-1, 1);
    switch (dtype) {
      case DType::f16:
        reinterpret_cast<uint16_t*>(bytes_.data())[i] = f32_to_f16(value);
        break;
      case DType::bf16:
        reinterpret_cast<uint16_t*>(bytes_.data())[i] = f32_to_bf16(value);
        break;
      case DType::f8_e4m3:
        reinterpret_cast<uint8_t*>(bytes_.data())[i] = f32_to_f8_e4m3(value * 300);
        break;
      default:
        reinterpret_cast<float*>(bytes_.data())[i] = value;
    }
  }
  if (kind.format != WeightFormat::as_stored) quantise();
}

void HostMatrix::quantise() {
  const bool int8 = kind_.format == WeightFormat::int8;
  const int64_t group = int8 ? kInt8WeightGroup : kInt4WeightGroup, in = in_dim();
  quantised_.resize(out_dim() * in);
  for (int64_t out = 0; out < out_dim(); ++out)
    for (int64_t begin = 0; begin < in; begin += group) {
      float* values = &quantised_[out * in + begin];
      const int64_t count = std::min(group, in - begin);
      std::vector<int8_t> codes(count);
      for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(stored(out, begin + i));
      const float scale =
          int8 ? quantise_int8(values, count, codes.data()) : quantise_int4(values, count, codes.data());
      for (int64_t i = 0; i < count; ++i) values[i] = static_cast<float>(codes[i]) * scale;
    }
}

MatrixSource HostMatrix::source() const {
  MatrixSource source;
  source.weight = {"weight", dtype_, {rows_, cols_}, bytes_.data()};
  if (!scales_.empty())
    source.scale_inv = {"weight_scale_inv",
                        DType::f32,
                        {num_blocks(rows_), num_blocks(cols_)},
                        reinterpret_cast<const std::byte*>(scales_.data())};
  source.transpose = transpose_;
  source.format = kind_.format;
  source.activation_bits = kind_.activation_bits;
  return source;
}

double HostMatrix::at(int64_t out, int64_t in) const {
  return quantised_.empty() ? stored(out, in) : quantised_[out * in_dim() + in];
}

double HostMatrix::stored(int64_t out, int64_t in) const {
  const int64_t row = transpose_ ? in : out, col = transpose_ ? out : in;
  const double value = load_as_f32(dtype_, bytes_.data(), row * cols_ + col);
  return scales_.empty() ? value : value * scales_[row / kScaleBlock * num_blocks(cols_) + col / kScaleBlock];
}

float rounded_to(RowFormat format, float value) {
  return format == RowFormat::f32 ? value : bf16_to_f32(f32_to_bf16(value));
}

TestCache::TestCache(Backend& backend, const Shape& shape, std::vector<int64_t> lengths, Rng& rng)
    : backend_(backend) {
  int64_t num_pages = 0;
  for (int64_t length : lengths) num_pages += (length + shape.page_size - 1) / shape.page_size;
  const std::vector<int32_t> order = rng.permutation(num_pages);
  int64_t taken[2] = {0, 0};  // of the near pages and of the far ones
  for (size_t s = 0; s < lengths.size(); ++s) {
    const bool far = shape.far_page > 0 && s % 2 == 1;
    auto& table = tables_.emplace_back();
    for (int64_t p = 0; p * shape.page_size < lengths[s]; ++p)
      table.push_back(static_cast<int32_t>((far ? shape.far_page : 0) + order[taken[far]++]));
  }
  pages = {nullptr, shape.format, shape.page_size, shape.row_dim, shape.bf16_tail};
  const size_t page_bytes =
      std::max(backend.latent_page_bytes(pages), backend.index_key_page_bytes(pages));  // used as either
  buffer_ = backend.allocate(static_cast<size_t>(shape.far_page + num_pages) * page_bytes);
  pages.pages = buffer_->data();
}

void TestCache::write(Kind kind, int64_t sequence, int64_t first_position, const std::vector<float>& values) {
  const int64_t num_rows = static_cast<int64_t>(values.size()) / pages.row_dim;
  const SequenceRows sequences[] = {rows(sequence, 0, num_rows, first_position)};
  const WriteCacheArgs args{values.data(), pages.row_dim, pages, sequences};
  if (kind == Kind::latents)
    backend_.write_latents(args);
  else
    backend_.write_index_keys(args);
}

SequenceRows TestCache::rows(int64_t sequence, int64_t row_begin, int64_t num_rows,
                             int64_t first_position) const {
  return {row_begin, row_begin + num_rows, first_position, tables_[sequence].data()};
}

int64_t TestCache::slot(int64_t sequence, int64_t position) const {
  return tables_[sequence][position / pages.page_size] * pages.page_size + position % pages.page_size;
}

std::vector<int64_t> supported_page_sizes(const Backend& backend, RowFormat format, int64_t row_dim,
                                          std::vector<int64_t> wanted) {
  std::erase_if(wanted, [&](int64_t page_size) {
    try {
      const CachePages rows{nullptr, format, page_size, row_dim};
      return backend.latent_page_bytes(rows) == 0 || backend.index_key_page_bytes(rows) == 0;
    } catch (const Error&) {
      return true;
    }
  });
  return wanted;
}

double row_error(const float* actual, const std::vector<double>& expected) {
  double largest = 0, difference = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!std::isfinite(expected[i]) || !std::isfinite(actual[i])) {
      const bool same = std::isnan(expected[i]) ? std::isnan(actual[i]) : actual[i] == expected[i];
      if (!same) return std::numeric_limits<double>::infinity();
      continue;
    }
    largest = std::max(largest, std::fabs(expected[i]));
    difference = std::max(difference, std::fabs(actual[i] - expected[i]));
  }
  return difference == 0 ? 0 : difference / largest;
}

std::vector<uint32_t> bits_of(const float* values, int64_t count) {
  std::vector<uint32_t> bits(count);
  std::transform(values, values + count, bits.begin(), [](float v) { return std::bit_cast<uint32_t>(v); });
  return bits;
}

std::vector<uint32_t> bits_of(const int32_t* values, int64_t count) {
  return std::vector<uint32_t>(values, values + count);
}

void expect_batch_invariant(const std::string& backend_name, int64_t num_rows, const RunRows& run) {
  std::vector<int64_t> all(num_rows);
  std::iota(all.begin(), all.end(), 0);
  std::vector<std::vector<int64_t>> arrangements{all, {all.rbegin(), all.rend()}};
  const std::vector<int32_t> shuffled = Rng(5).permutation(num_rows);
  arrangements.emplace_back(shuffled.begin(), shuffled.end());
  arrangements.emplace_back(all.begin(), all.begin() + num_rows / 3);
  arrangements.emplace_back(all.begin() + num_rows / 3, all.end());
  for (int64_t row : all) arrangements.push_back({row});

  std::vector<std::vector<uint32_t>> expected;
  for (int threads : {1, 2, 3}) {
    const auto backend = make_backend(backend_name, threads);
    if (expected.empty()) expected = run(*backend, all);
    ASSERT_EQ(static_cast<int64_t>(expected.size()), num_rows);
    for (const auto& rows : arrangements) {
      const auto actual = run(*backend, rows);
      ASSERT_EQ(actual.size(), rows.size());
      for (size_t i = 0; i < rows.size(); ++i)
        ASSERT_EQ(actual[i], expected[rows[i]]) << "row " << rows[i] << " at place " << i << " of "
                                                << rows.size() << ", " << threads << " threads";
    }
  }
}

}  // namespace indexshare
