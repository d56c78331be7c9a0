// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/packed_matrix.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "backend/cpu/weight_source.h"
#include "base/check.h"
#include "base/thread_pool.h"

namespace indexshare {

namespace {

WeightElement element_of(const MatrixSource& source) {
  if (source.format != WeightFormat::as_stored)
    return source.format == WeightFormat::int8 ? WeightElement::int8 : WeightElement::int4;
  switch (source.weight.dtype) {
    case DType::f32:
      return WeightElement::f32;
    case DType::f16:
      return WeightElement::f16;
    case DType::bf16:
      return WeightElement::bf16;
    default:
      return WeightElement::f8_e4m3;
  }
}

ProductArithmetic arithmetic_of(const MatrixSource& source, WeightElement element, bool tiles) {
  const int bits = source.activation_bits;
  ENSURE(bits == 8 || bits == 16 || bits == 32, "{}: {} activation bits", source.weight.name, bits);
  if (bits == 32 || element == WeightElement::f32 || element == WeightElement::f16)
    return ProductArithmetic::f32;
  if (tiles) return ProductArithmetic::bf16;
  if (!is_integer(element)) return ProductArithmetic::f32;
  return bits == 8 ? ProductArithmetic::int8 : ProductArithmetic::int16;
}

size_t stored_bytes(WeightElement e) {
  return e == WeightElement::f32 ? 4 : e == WeightElement::f16 || e == WeightElement::bf16 ? 2 : 1;
}

// Place of column `column` (0..31) among the 32 elements of one `in` in the layout of columns.
int64_t place_of(WeightElement e, int64_t column) {
  const bool paired = e == WeightElement::bf16 || e == WeightElement::f8_e4m3;
  return paired ? column % 16 * 2 + column / 16 : column;
}

// to[in * 32 + place] = from[column, in], [columns, in_dim] -> [in_dim, 32].
template <class T>
void transpose_panel(const T* from, const WeightSource& source, int64_t num_columns, WeightElement element,
                     T* to) {
  constexpr int64_t kBlock =
      64;  // a destination block of 64 x 32 stays in the first cache while columns fill it
  for (int64_t begin = 0; begin < source.in_dim(); begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, source.in_dim());
    for (int64_t c = 0; c < num_columns; ++c) {
      const T* column = from + c * source.out_stride();
      T* target = to + place_of(element, c);
      for (int64_t i = begin; i < end; ++i) target[i * kPanelWidth] = column[i * source.in_stride()];
    }
  }
}

// Byte of an int4 pair: the low or the high half.
void set_half(std::byte* byte, bool high, int8_t code) {
  const auto bits = static_cast<unsigned>(code) & 15u;
  *byte |= static_cast<std::byte>(high ? bits << 4 : bits);
}

float half_as_float(std::byte byte, bool high) {
  const auto bits = static_cast<int8_t>(high ? byte : byte << 4);
  return static_cast<float>(bits >> 4);
}

}  // namespace

PackedMatrix::PackedMatrix(const MatrixSource& matrix_source, ThreadPool& pool, WeightArena& arena,
                           bool tiles)
    : element_(element_of(matrix_source)), arithmetic_(arithmetic_of(matrix_source, element_, tiles)) {
  const WeightSource source(matrix_source);
  out_dim_ = source.out_dim();
  in_dim_ = source.in_dim();
  const size_t weight_bytes = panel_bytes() * static_cast<size_t>(num_panels());
  const bool scaled = is_integer(element_) || element_ == WeightElement::f8_e4m3;
  const size_t scale_bytes =
      scaled && in_columns() ? static_cast<size_t>(num_panels() * num_groups() * kPanelWidth) * 4 : 0;
  const size_t scale_offset = (weight_bytes + 63) / 64 * 64;
  num_bytes_ = scale_offset + scale_bytes;
  memory_ = arena.allocate(num_bytes_);
  if (scale_bytes > 0) scales_ = reinterpret_cast<float*>(memory_.get() + scale_offset);
  const int64_t grain = std::max<int64_t>(1, (1 << 18) / std::max<int64_t>(1, in_dim_ * kPanelWidth));
  pool.parallel_for(num_panels(), grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t panel = begin; panel < end; ++panel) pack_panel(source, panel);
  });
}

size_t PackedMatrix::panel_bytes() const {
  if (in_columns())
    return static_cast<size_t>(in_dim_ * kPanelWidth) * stored_bytes(element_) /
           (element_ == WeightElement::int4 ? 2 : 1);
  return static_cast<size_t>(num_groups() * group_header_bytes(element_) +
                             num_steps() * step_bytes(element_));
}

float* PackedMatrix::scale_of(int64_t panel, int64_t group) const {
  if (in_columns()) return scales_ + (panel * num_groups() + group) * kPanelWidth;
  return reinterpret_cast<float*>(memory_.get() + static_cast<size_t>(panel) * panel_bytes() +
                                  static_cast<size_t>(group * group_bytes(element_)));
}

// Within a panel, the first byte of an element, or the byte that holds an int4.
size_t PackedMatrix::tile_offset(int64_t column, int64_t in) const {
  const int64_t group = in / group_columns(element_),
                step = in % group_columns(element_) / step_columns(element_);
  const int64_t k = in % step_columns(element_), tile = column / 16;
  // Row and byte within the tile as the kernels see it, all elements 1 (codes) or 2 bytes wide.
  const int64_t byte_of_k = is_integer(element_) ? k : 2 * k;
  const int64_t row = byte_of_k / 4, byte = column % 16 * 4 + byte_of_k % 4;
  int64_t within = row * 64 + byte;
  if (element_ == WeightElement::int4) within = row % 8 * 64 + byte;
  if (element_ == WeightElement::f8_e4m3) {
    const int64_t e = byte / 2;
    within = row / 2 * 64 + e / 8 * 16 + row % 2 * 8 + e % 8;
  }
  return static_cast<size_t>(group * group_bytes(element_) + group_header_bytes(element_) +
                             step * step_bytes(element_) + tile * step_bytes(element_) / 2 + within);
}

void PackedMatrix::pack_panel(const WeightSource& source, int64_t panel) {
  if (is_integer(element_)) return pack_codes(source, panel);
  if (in_columns()) {
    pack_columns(source, panel);
  } else {
    pack_tiles(source, panel);
  }
  if (element_ == WeightElement::f8_e4m3) pack_block_scales(source, panel);
}

void PackedMatrix::pack_columns(const WeightSource& source, int64_t panel) {
  const int64_t first = panel * kPanelWidth, columns = std::min(kPanelWidth, out_dim_ - first);
  std::byte* to = memory_.get() + static_cast<size_t>(panel) * panel_bytes();
  const auto run = [&]<class T>(T) {
    transpose_panel(reinterpret_cast<const T*>(source.data()) + source.index(first, 0), source, columns,
                    element_, reinterpret_cast<T*>(to));
  };
  if (stored_bytes(element_) == 4) run(uint32_t{});
  if (stored_bytes(element_) == 2) run(uint16_t{});
  if (stored_bytes(element_) == 1) run(uint8_t{});
}

void PackedMatrix::pack_tiles(const WeightSource& source, int64_t panel) {
  const int64_t first = panel * kPanelWidth, columns = std::min(kPanelWidth, out_dim_ - first);
  const size_t size = stored_bytes(element_);
  std::byte* to = memory_.get() + static_cast<size_t>(panel) * panel_bytes();
  for (int64_t in = 0; in < in_dim_; ++in)
    for (int64_t c = 0; c < columns; ++c)
      std::memcpy(to + tile_offset(c, in),
                  source.data() + static_cast<size_t>(source.index(first + c, in)) * size, size);
}

// The kernels that widen columns of e4m3 take a NaN code for a number: a NaN in the block makes the column
// NaN either way.
void PackedMatrix::pack_block_scales(const WeightSource& source, int64_t panel) {
  const auto* codes = reinterpret_cast<const uint8_t*>(source.data());
  const int64_t first = panel * kPanelWidth, columns = std::min(kPanelWidth, out_dim_ - first);
  for (int64_t group = 0; group < num_groups(); ++group)
    for (int64_t c = 0; c < columns; ++c) {
      const int64_t begin = group * kScaleBlock, end = std::min(in_dim_, begin + kScaleBlock);
      float scale = source.block_scale(first + c, begin);
      for (int64_t in = begin; in < end; ++in)
        if ((codes[source.index(first + c, in)] & 0x7f) == 0x7f)
          scale = std::numeric_limits<float>::quiet_NaN();
      scale_of(panel, group)[c] = in_columns() ? scale * kF8Bias : scale;
    }
}

void PackedMatrix::pack_codes(const WeightSource& source, int64_t panel) {
  const int64_t first = panel * kPanelWidth, columns = std::min(kPanelWidth, out_dim_ - first);
  const int64_t size = group_columns(element_);
  int8_t codes[kScaleBlock];
  for (int64_t group = 0; group < num_groups(); ++group)
    for (int64_t c = 0; c < columns; ++c) {
      const int64_t begin = group * size, count = std::min(size, in_dim_ - begin);
      scale_of(panel, group)[c] = source.quantise(first + c, begin, count, codes);
      for (int64_t i = 0; i < count; ++i) set_code(panel, c, begin + i, codes[i]);
    }
}

// The byte of an integer weight, and whether its high half.
PackedMatrix::CodePlace PackedMatrix::code_place(int64_t column, int64_t in) const {
  const bool int4 = element_ == WeightElement::int4;
  if (in_columns())
    return int4 ? CodePlace{static_cast<size_t>(in * 16 + column % 16), column >= 16}
                : CodePlace{static_cast<size_t>(in * kPanelWidth + column), false};
  return {tile_offset(column, in), int4 && in % 64 >= 32};
}

void PackedMatrix::set_code(int64_t panel, int64_t column, int64_t in, int8_t code) {
  const CodePlace place = code_place(column, in);
  std::byte* byte = memory_.get() + static_cast<size_t>(panel) * panel_bytes() + place.offset;
  if (element_ == WeightElement::int8) {
    *byte = static_cast<std::byte>(code);
  } else {
    set_half(byte, place.high, code);
  }
}

float PackedMatrix::at(int64_t panel, int64_t column, int64_t in) const {
  const std::byte* data = panels() + static_cast<size_t>(panel) * panel_bytes();
  if (element_ == WeightElement::int8)
    return static_cast<float>(static_cast<int8_t>(data[code_place(column, in).offset]));
  if (element_ == WeightElement::int4) {
    const CodePlace place = code_place(column, in);
    return half_as_float(data[place.offset], place.high);
  }
  constexpr DType kDTypes[] = {DType::f32, DType::f16, DType::bf16, DType::f8_e4m3};
  const DType dtype = kDTypes[static_cast<size_t>(element_)];
  if (!in_columns()) return load_as_f32(dtype, data + tile_offset(column, in), 0);
  return load_as_f32(dtype, data, in * kPanelWidth + place_of(element_, column));
}

void PackedMatrix::read_row(int64_t out, float* row) const {
  const int64_t panel = out / kPanelWidth, column = out % kPanelWidth;
  const bool scaled = is_integer(element_) || element_ == WeightElement::f8_e4m3;
  const float bias = scales_ && element_ == WeightElement::f8_e4m3 ? kF8Bias : 1.0f;
  for (int64_t in = 0; in < in_dim_; ++in) {
    row[in] = at(panel, column, in);
    if (scaled) row[in] *= scale_of(panel, in / group_columns(element_))[column] / bias;
  }
}

MappedMatrix::MappedMatrix(const MatrixSource& source) : source_(source) {
  WeightSource check(source_);
  ENSURE(!source.transpose && source.scale_row_offset == 0,
         "{}: a lookup table is neither transposed nor cut", source.weight.name);
}

void MappedMatrix::read_row(int64_t out, float* row) const {
  const WeightSource weight(source_);
  if (source_.format == WeightFormat::as_stored) return weight.read(out, 0, in_dim(), row);
  int8_t codes[kScaleBlock];
  const int64_t group = scale_group_of(source_.format);
  for (int64_t begin = 0; begin < in_dim(); begin += group) {
    const int64_t count = std::min(group, in_dim() - begin);
    const float scale = weight.quantise(out, begin, count, codes);
    for (int64_t i = 0; i < count; ++i) row[begin + i] = static_cast<float>(codes[i]) * scale;
  }
}

}  // namespace indexshare
