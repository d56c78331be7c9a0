// SPDX-License-Identifier: Apache-2.0
#include "model/tensor_loader.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "backend/quantise.h"
#include "base/check.h"

namespace indexshare {

namespace {

constexpr int64_t kScaleBlock = 128;  // FP8 weights carry one scale a 128 x 128 block

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t group_of(WeightFormat format) {
  return format == WeightFormat::int8 ? kInt8WeightGroup : kInt4WeightGroup;
}

TensorView view(const std::string& name, DType dtype, std::vector<int64_t> shape, const void* data) {
  return {name, dtype, std::move(shape), static_cast<const std::byte*>(data)};
}

TensorView rows_of(const TensorView& matrix, int64_t first, int64_t count) {
  TensorView rows = matrix;
  rows.shape[0] = count;
  rows.data += static_cast<size_t>(first * matrix.shape[1]) * dtype_bytes(matrix.dtype);
  return rows;
}

}  // namespace

struct TensorLoader::Wide {
  TensorView values;
  std::shared_ptr<const void> owner;
};

TensorLoader::TensorLoader(const Checkpoint& checkpoint, std::span<const PackedScheme> schemes,
                           Backend& backend, const WeightOptions& options, Weights& weights)
    : checkpoint_(checkpoint), schemes_(schemes), backend_(backend), options_(options), weights_(weights) {}

// Shards are many: a message about a tensor says which file it stands in.
std::string TensorLoader::place(const std::string& name) const {
  return fmt::format("{}: {}", checkpoint_.file_of(name).string(), name);
}

bool TensorLoader::has(const std::string& name) const {
  return checkpoint_.find(name) != nullptr || has_packed_weight(checkpoint_, name);
}

// The format of what cannot be quantised in the file: in a quantised checkpoint it follows the others.
WeightFormat TensorLoader::format_at_load(WeightRole role) const {
  const bool follows = options_.format == WeightFormat::as_stored && !schemes_.empty();
  return format_of(role, follows ? WeightFormat::int8 : options_.format);
}

void TensorLoader::use(const TensorView& tensor) {
  if (!used_.insert(tensor.name).second) return;
  if (options_.check_tensors) check_finite(tensor);
  done_bytes_ += tensor.num_bytes();
  if (options_.progress) options_.progress(done_bytes_, checkpoint_.total_bytes());
}

const TensorView& TensorLoader::stored(const std::string& name, const std::vector<int64_t>& shape) {
  const TensorView& t = checkpoint_.get(name);
  if (t.shape != shape)
    fail(ErrorCode::unsupported, "{}: expected shape [{}] by config.json, the file has [{}]", place(name),
         fmt::join(shape, ", "), fmt::join(t.shape, ", "));
  const bool is_float =
      t.dtype == DType::f32 || t.dtype == DType::f16 || t.dtype == DType::bf16 || t.dtype == DType::f8_e4m3;
  if (!is_float)
    fail(ErrorCode::unsupported, "{}: expected f32, f16, bf16 or f8_e4m3, the file has {}", place(name),
         dtype_name(t.dtype));
  use(t);
  return t;
}

PackedWeight TensorLoader::packed(const std::string& name, const std::vector<int64_t>& shape) {
  const PackedWeight weight = find_packed_weight(checkpoint_, name, schemes_);
  if (std::vector{weight.rows, weight.cols} != shape)
    fail(ErrorCode::unsupported, "{}: expected [{}] by config.json, the file has [{}, {}]",
         place(weight.shape->name), fmt::join(shape, ", "), weight.rows, weight.cols);
  for (const TensorView* part : {weight.words, weight.scales, weight.shape}) use(*part);
  return weight;
}

TensorView TensorLoader::scales(const std::string& name, const TensorView& weight) {
  if (weight.dtype != DType::f8_e4m3) return {};
  const std::string scale_name = name + "_scale_inv";
  const TensorView* scale = checkpoint_.find(scale_name);
  const std::vector<int64_t> shape = {ceil_div(weight.shape[0], kScaleBlock),
                                      ceil_div(weight.shape[1], kScaleBlock)};
  if (!scale)
    fail(ErrorCode::unsupported, "{}: {} is f8_e4m3 and needs its scales, which are missing from {}",
         scale_name, name, checkpoint_.directory().string());
  if (scale->dtype != DType::f32 || scale->shape != shape)
    fail(ErrorCode::unsupported, "{}: expected f32 [{}] (one scale a 128x128 block), the file has {} [{}]",
         place(scale_name), fmt::join(shape, ", "), dtype_name(scale->dtype), fmt::join(scale->shape, ", "));
  return stored(scale_name, shape);
}

Vector TensorLoader::vector(const std::string& name, int64_t dim) {
  const TensorView& t = stored(name, {dim});
  if (t.dtype == DType::f8_e4m3)
    fail(ErrorCode::unsupported, "{}: expected f32, f16 or bf16, the file has f8_e4m3", place(name));
  weights_.bytes_by_format[std::string(dtype_name(t.dtype))] += t.num_bytes();
  Vector values(static_cast<size_t>(dim));
  for (int64_t i = 0; i < dim; ++i) values[i] = t.at(i);
  return values;
}

MatrixPtr TensorLoader::matrix(const std::string& name, const std::vector<int64_t>& shape) {
  const WeightRole role = role_of(name);
  if (has_packed_weight(checkpoint_, name)) return load_packed(name, packed(name, shape), role);
  const TensorView& weight = stored(name, shape);
  return load_stored(weight, scales(name, weight), role, format_of(role, options_.format));
}

MatrixPtr TensorLoader::table(const std::string& name, const std::vector<int64_t>& shape) {
  const TensorView& weight = stored(name, shape);
  const MatrixSource source{.weight = weight, .scale_inv = scales(name, weight), .lookup_only = true};
  count(source, WeightRole::exact);
  return backend_.load_matrix(source);
}

MatrixPtr TensorLoader::tied_head(const std::string& name, const std::vector<int64_t>& shape) {
  const TensorView& weight = stored(name, shape);
  return load_stored(weight, scales(name, weight), WeightRole::delicate,
                     format_at_load(WeightRole::delicate));
}

MatrixPtr TensorLoader::load_stored(const TensorView& weight, const TensorView& scale, WeightRole role,
                                    WeightFormat format) {
  MatrixPtr loaded = load({.weight = weight, .scale_inv = scale, .format = format}, role, nullptr);
  if (loaded->num_bytes() > 0) checkpoint_.release(weight);
  return loaded;
}

MatrixPtr TensorLoader::load_packed(const std::string& name, const PackedWeight& weight, WeightRole role) {
  const WeightFormat own = weight.num_bits == 8 ? WeightFormat::int8 : WeightFormat::int4;
  const bool as_packed = options_.format == WeightFormat::as_stored;
  const WeightFormat wanted = as_packed ? own : format_of(role, options_.format);
  // Wider groups become several of ours with one scale; narrower ones have no place.
  const bool fits = weight.num_groups() == 1 || weight.group_size % group_of(own) == 0;
  MatrixPtr loaded;
  if (role == WeightRole::exact) {
    const Wide wide = widen(name, weight);
    loaded = load({.weight = wide.values}, role, wide.owner);
  } else if (wanted == own && fits) {
    loaded = load_codes(name, weight, role, own);
  } else {
    if (num_requantised_++ == 0) first_requantised_ = name;
    const Wide wide = widen(name, weight);
    loaded =
        load({.weight = wide.values, .format = as_packed ? WeightFormat::int8 : wanted}, role, wide.owner);
  }
  checkpoint_.release(*weight.words);
  return loaded;
}

MatrixPtr TensorLoader::load_codes(const std::string& name, const PackedWeight& weight, WeightRole role,
                                   WeightFormat format) {
  struct Codes {
    std::vector<int8_t> codes;
    std::vector<float> scales;
  };
  const int64_t group = group_of(format), groups = ceil_div(weight.cols, group);
  auto unpacked = std::make_shared<Codes>();
  unpacked->codes.resize(static_cast<size_t>(weight.rows * weight.cols));
  unpacked->scales.resize(static_cast<size_t>(weight.rows * groups));
  for (int64_t r = 0; r < weight.rows; ++r) {
    weight.read_codes(r, unpacked->codes.data() + r * weight.cols);
    for (int64_t g = 0; g < groups; ++g)
      unpacked->scales[r * groups + g] =
          weight.scales->at(r * weight.num_groups() + g * group / weight.group_size);
  }
  const TensorView codes = view(name, DType::i8, {weight.rows, weight.cols}, unpacked->codes.data());
  const TensorView scale = view(name + "_scale", DType::f32, {weight.rows, groups}, unpacked->scales.data());
  return load({.weight = codes, .scale_inv = scale, .format = format}, role, unpacked);
}

MatrixPtr TensorLoader::load(MatrixSource source, WeightRole role, std::shared_ptr<const void> owner) {
  source.activation_bits =
      activation_bits_of(role, source.weight.dtype, source.format, options_.activation_bits);
  count(source, role);
  MatrixPtr loaded = backend_.load_matrix(source);
  if (owner && loaded->num_bytes() == 0) weights_.kept.push_back(std::move(owner));
  return loaded;
}

// Heads straddle FP8 scale blocks: a value's rows keep their codes and find their scales by the row they come
// from; a key is transposed, which would cut scale blocks along the summed axis, so it is dequantised to f32
// (in GLM-5.2 0.07 % of the weights grow fourfold).
void TensorLoader::cut_by_head(const std::string& name, HeadRows head, int64_t cols,
                               std::vector<MatrixPtr>& keys, std::vector<MatrixPtr>& values) {
  constexpr WeightRole role = WeightRole::key_value;
  const int64_t head_rows = head.key + head.value;
  const std::vector<int64_t> shape = {head.num_heads * head_rows, cols};
  const WeightFormat format = format_at_load(role);
  TensorView all, scale;
  std::shared_ptr<const void> owner;
  if (has_packed_weight(checkpoint_, name)) {
    Wide wide = widen(name, packed(name, shape));
    all = wide.values, owner = wide.owner;
  } else {
    all = stored(name, shape), scale = scales(name, all);
  }
  bool copied = true;
  for (int64_t first = 0; first < shape[0]; first += head_rows) {
    Wide key{rows_of(all, first, head.key), owner};
    if (scale.data) key = widen(key.values, scale, first);
    keys.push_back(load({.weight = key.values, .transpose = true, .format = format}, role, key.owner));
    values.push_back(load({.weight = rows_of(all, first + head.key, head.value),
                           .scale_inv = scale,
                           .scale_row_offset = scale.data ? first + head.key : 0,
                           .format = format},
                          role, owner));
    copied = copied && keys.back()->num_bytes() > 0 && values.back()->num_bytes() > 0;
  }
  if (copied && !owner) checkpoint_.release(all);
}

TensorLoader::Wide TensorLoader::widen(const std::string& name, const PackedWeight& weight) const {
  auto values = std::make_shared<Vector>(static_cast<size_t>(weight.rows * weight.cols));
  for (int64_t r = 0; r < weight.rows; ++r) weight.read_row(r, values->data() + r * weight.cols);
  return {view(name, DType::f32, {weight.rows, weight.cols}, values->data()), values};
}

// `rows` begin at row `first` of the matrix that `scale` belongs to.
TensorLoader::Wide TensorLoader::widen(const TensorView& rows, const TensorView& scale, int64_t first) const {
  const int64_t num_rows = rows.shape[0], cols = rows.shape[1];
  auto values = std::make_shared<Vector>(static_cast<size_t>(num_rows * cols));
  for (int64_t r = 0; r < num_rows; ++r)
    for (int64_t c = 0; c < cols; ++c)
      (*values)[r * cols + c] =
          rows.at(r * cols + c) *
          scale.at((first + r) / kScaleBlock * ceil_div(cols, kScaleBlock) + c / kScaleBlock);
  return {view(rows.name, DType::f32, rows.shape, values->data()), values};
}

// What the weight takes in memory, by format; padding never counts.
void TensorLoader::count(const MatrixSource& source, WeightRole role) {
  const TensorView& weight = source.weight;
  std::string format(dtype_name(weight.dtype));
  size_t bytes = weight.num_bytes() + (source.scale_inv.data ? source.scale_inv.num_bytes() : 0);
  if (source.format != WeightFormat::as_stored) {
    format = weight_format_name(source.format);
    const int64_t cols = source.transpose ? weight.shape[0] : weight.shape[1];
    const int64_t rows = weight.num_elements() / cols, group = group_of(source.format);
    const int64_t code_bytes = source.format == WeightFormat::int8 ? cols : (cols + 1) / 2;
    bytes = static_cast<size_t>(rows * (code_bytes + 4 * ceil_div(cols, group)));
  } else if (source.scale_row_offset > 0 || source.transpose) {
    bytes = weight.num_bytes();  // a slice: its share of the scales is too small to tell
  }
  weights_.bytes_by_format[format] += bytes;
  if (role == WeightRole::exact) return;
  Weights::Format& kind = weights_.formats[format];
  kind.bytes += bytes;
  kind.activation_bits = source.activation_bits;
}

void TensorLoader::finish() {
  if (num_requantised_ > 0)
    weights_.notes.push_back(fmt::format(
        "{} weights of the file are quantised again in another format or other groups (int8: {}, int4: "
        "{} columns), {} the first",
        num_requantised_, kInt8WeightGroup, kInt4WeightGroup, first_requantised_));
}

void TensorLoader::check_finite(const TensorView& t) const {
  if (t.dtype == DType::i32 || t.dtype == DType::i64) return;
  for (int64_t i = 0; i < t.num_elements(); ++i)
    if (!std::isfinite(t.at(i)))
      fail(ErrorCode::unsupported, "{}: element {} is {}, expected finite weights", place(t.name), i,
           t.at(i));
}

}  // namespace indexshare
