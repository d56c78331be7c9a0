// SPDX-License-Identifier: Apache-2.0
#include "op_cases.h"

#include <algorithm>
#include <cmath>
#include <memory>

#include "base/check.h"
#include "base/dtype.h"
#include "random_data.h"

namespace indexshare {

namespace {

std::unique_ptr<Matrix> random_matrix(Backend& backend, const CaseOptions& o, int64_t out, int64_t in) {
  const DType dtype = o.weights;
  std::vector<std::byte> bytes(static_cast<size_t>(out * in) * dtype_bytes(dtype));
  const int64_t blocks_out = (out + 127) / 128, blocks_in = (in + 127) / 128;
  const std::vector<float> scales(static_cast<size_t>(blocks_out * blocks_in), 0.01f);
  uint64_t state = static_cast<uint64_t>(out * 31 + in);
  for (int64_t i = 0; i < out * in; ++i) {
    const float value = random_value(state);
    switch (dtype) {
      case DType::f32:
        reinterpret_cast<float*>(bytes.data())[i] = value;
        break;
      case DType::f16:
        reinterpret_cast<uint16_t*>(bytes.data())[i] = f32_to_f16(value);
        break;
      case DType::bf16:
        reinterpret_cast<uint16_t*>(bytes.data())[i] = f32_to_bf16(value);
        break;
      default:
        reinterpret_cast<uint8_t*>(bytes.data())[i] = f32_to_f8_e4m3(value * 200);
        break;
    }
  }
  MatrixSource source;
  source.format = o.format;
  source.activation_bits = o.activation_bits;
  source.weight = {"random", dtype, {out, in}, bytes.data()};
  if (dtype == DType::f8_e4m3)
    source.scale_inv = {
        "scales", DType::f32, {blocks_out, blocks_in}, reinterpret_cast<const std::byte*>(scales.data())};
  return backend.load_matrix(source);
}

Arithmetic product_arithmetic(const CaseOptions& o) {
  const bool fine =
      o.format == WeightFormat::as_stored && (o.weights == DType::f32 || o.weights == DType::f16);
  return o.activation_bits == 32 || fine ? Arithmetic::f32 : Arithmetic::bf16_tiles;
}

std::string weight_name(const CaseOptions& o) {
  const std::string_view name = o.format == WeightFormat::int8   ? "int8"
                                : o.format == WeightFormat::int4 ? "int4"
                                                                 : dtype_name(o.weights);
  return fmt::format("{} a{}", name, o.activation_bits);
}

void linear_cases(Backend& backend, const ModelShape& m, const CaseOptions& o, const VisitCase& visit) {
  const int64_t shapes[][2] = {{m.q_lora + m.kv_lora + m.rope, m.hidden},
                               {m.num_heads * (m.nope + m.rope), m.q_lora},
                               {m.hidden, m.num_heads * m.v_dim},
                               {m.vocab, m.hidden}};
  for (const auto& [out, in] : shapes) {
    const auto weight = random_matrix(backend, o, out, in);
    for (int64_t rows : o.rows) {
      const auto x = backend.allocate(static_cast<size_t>(rows * in) * sizeof(float));
      const auto y = backend.allocate(static_cast<size_t>(rows * out) * sizeof(float));
      const std::vector<float> values = random_floats(rows * in);
      backend.copy(x->data(), values.data(), values.size() * sizeof(float));
      const LinearArgs args{static_cast<const float*>(x->data()), in,  weight.get(),
                            static_cast<float*>(y->data()),       out, rows};
      visit({.name = fmt::format("linear {} rows, {} x {} {}", rows, out, in, weight_name(o)),
             .flops = 2.0 * static_cast<double>(rows * out * in),
             .bytes = static_cast<double>(weight->num_bytes()) + 4.0 * static_cast<double>(rows * (in + out)),
             .arithmetic = product_arithmetic(o),
             .run = [&] { backend.linear({&args, 1}); }});
    }
  }
}

void expert_cases(Backend& backend, const ModelShape& m, const CaseOptions& o, const VisitCase& visit) {
  std::vector<std::unique_ptr<Matrix>> weights;
  std::vector<Expert> table;
  for (int64_t e = 0; e < m.num_experts; ++e) {
    weights.push_back(random_matrix(backend, o, m.expert_dim, m.hidden));
    weights.push_back(random_matrix(backend, o, m.expert_dim, m.hidden));
    weights.push_back(random_matrix(backend, o, m.hidden, m.expert_dim));
    const size_t n = weights.size();
    table.push_back({weights[n - 3].get(), weights[n - 2].get(), weights[n - 1].get()});
  }
  for (int64_t rows : o.rows) {
    const int64_t k = m.experts_per_token;
    const std::vector<float> x = random_floats(rows * m.hidden), mix(static_cast<size_t>(rows * k), 0.25f);
    std::vector<float> y(static_cast<size_t>(rows * m.hidden));
    std::vector<int32_t> experts(static_cast<size_t>(rows * k));
    for (int64_t i = 0; i < rows * k; ++i)  // k different experts a row, every expert about equally often
      experts[static_cast<size_t>(i)] =
          static_cast<int32_t>((i / k * 5 + i % k * (m.num_experts / k)) % m.num_experts);
    const ExpertsArgs args{x.data(), experts.data(), mix.data(),   table,   rows,
                           k,        m.hidden,       m.expert_dim, y.data()};
    const double expert_bytes = static_cast<double>(3 * weights[0]->num_bytes());
    visit({.name = fmt::format("experts {} rows, {} of {} x {} {}", rows, k, m.num_experts, m.expert_dim,
                               weight_name(o)),
           .flops = 6.0 * static_cast<double>(rows * k * m.hidden * m.expert_dim),
           .bytes = static_cast<double>(std::min(rows * k, m.num_experts)) * expert_bytes,
           .arithmetic = product_arithmetic(o),
           .working_set = static_cast<double>(m.num_experts) * expert_bytes,
           .run = [&] { backend.experts(args); }});
  }
}

Arithmetic arithmetic_of(RowFormat format, Arithmetic of_int8) {
  return format == RowFormat::f32    ? Arithmetic::f32
         : format == RowFormat::bf16 ? Arithmetic::bf16_tiles
                                     : of_int8;
}

void select_cases(Backend& backend, const ModelShape& m, const CaseOptions& o, const VisitCase& visit) {
  for (int64_t context : o.contexts) {
    const RandomCache keys(backend, RandomCache::Kind::index_keys, o.keys, m.index_dim, 0, context);
    for (int64_t rows : o.rows) {
      if (rows > context) continue;
      const std::vector<float> queries = random_floats(rows * m.index_heads * m.index_dim);
      const std::vector<float> weights = random_floats(rows * m.index_heads, 3);
      const int64_t width = selection_width({}, m.topk, context);
      std::vector<int32_t> positions(static_cast<size_t>(rows * width)), counts(static_cast<size_t>(rows));
      const SequenceRows s{0, rows, context - rows, keys.table.data()};
      const IndexSelectArgs args{queries.data(),   weights.data(), keys.pages, {&s, 1}, rows,
                                 m.index_heads,    m.index_dim,    m.topk,     {},      width,
                                 positions.data(), counts.data()};
      const double scores = static_cast<double>(rows) * static_cast<double>(context - rows / 2);
      visit({.name = fmt::format("index_select {} rows at {} {}", rows, context, row_format_name(o.keys)),
             .flops = 2.0 * scores * static_cast<double>(m.index_heads * m.index_dim),
             .bytes = static_cast<double>(context) * keys.bytes_per_row,
             .arithmetic = arithmetic_of(o.keys, Arithmetic::int8_tiles),
             .run = [&] { backend.index_select(args); }});
    }
  }
}

void attention_cases(Backend& backend, const ModelShape& m, const CaseOptions& o, const VisitCase& visit) {
  const int64_t dim = m.kv_lora + m.rope;
  for (int64_t context : o.contexts) {
    const RandomCache cache(backend, RandomCache::Kind::latents, o.cache, dim, m.rope, context);
    const int64_t count = std::min(m.topk, context);
    for (int64_t rows : o.rows) {
      if (rows > context) continue;
      const std::vector<float> latent = random_floats(rows * m.num_heads * m.kv_lora);
      const std::vector<float> rope = random_floats(rows * m.num_heads * m.rope);
      std::vector<float> output(latent.size());
      std::vector<int32_t> slots(static_cast<size_t>(rows * count));
      const std::vector<int32_t> counts(static_cast<size_t>(rows), static_cast<int32_t>(count));
      uint64_t state = 11;
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t i = 0; i < count; ++i) {  // ascending, one in each of `count` equal ranges
          random_value(state);
          const int64_t low = context * i / count, high = std::max(low + 1, context * (i + 1) / count);
          const int64_t position =
              low + static_cast<int64_t>((state >> 33) % static_cast<uint64_t>(high - low));
          slots[static_cast<size_t>(row * count + i)] =
              static_cast<int32_t>(cache.table[static_cast<size_t>(position / 64)] * 64 + position % 64);
        }
      const SequenceRows s{0, rows, context - rows, cache.table.data()};
      SparseAttentionArgs args{latent.data(), rope.data(), m.num_heads * m.rope,
                               m.rope,        cache.pages, {&s, 1}};
      args.slots = slots.data(), args.counts = counts.data(), args.width = count;
      args.num_rows = rows, args.num_heads = m.num_heads, args.latent_dim = m.kv_lora, args.rope_dim = m.rope;
      args.scale = 1.0f / 16, args.output = output.data();
      const double pairs = static_cast<double>(rows * count);
      visit({.name = fmt::format("sparse_attention {} rows, {} of {} {}", rows, count, context,
                                 row_format_name(o.cache)),
             .flops = 2.0 * pairs * static_cast<double>(m.num_heads * (dim + m.kv_lora)),
             .bytes = pairs * cache.bytes_per_row,
             .access = Access::rows,
             .arithmetic = arithmetic_of(o.cache, Arithmetic::bf16_tiles),
             .working_set = static_cast<double>(context) * cache.bytes_per_row,
             .run = [&] { backend.sparse_attention(args); }});
    }
  }
}

void norm_cases(Backend& backend, const ModelShape& m, const CaseOptions& o, const VisitCase& visit) {
  for (int64_t rows : o.rows) {
    const std::vector<float> x = random_floats(rows * m.hidden), weight = random_floats(m.hidden);
    std::vector<float> y(x.size());
    const RmsNormArgs args{x.data(), m.hidden, weight.data(), y.data(), m.hidden, rows, m.hidden, 1e-5f};
    visit({.name = fmt::format("rms_norm {} rows of {}", rows, m.hidden),
           .flops = 4.0 * static_cast<double>(rows * m.hidden),
           .bytes = 8.0 * static_cast<double>(rows * m.hidden),
           .run = [&] { backend.rms_norm(args); }});
  }
}

void rope_cases(Backend& backend, const ModelShape& m, const CaseOptions& o, const VisitCase& visit) {
  for (int64_t rows : o.rows) {
    std::vector<float> x = random_floats(rows * m.num_heads * m.rope),
                       inv_freq(static_cast<size_t>(m.rope / 2));
    for (size_t j = 0; j < inv_freq.size(); ++j)
      inv_freq[j] = std::pow(8e6f, -2.0f * static_cast<float>(j) / static_cast<float>(m.rope));
    std::vector<int64_t> positions(static_cast<size_t>(rows));
    for (int64_t row = 0; row < rows; ++row) positions[static_cast<size_t>(row)] = 100'000 + row;
    const RopeArgs args{x.data(), m.num_heads * m.rope, m.rope, positions.data(),      inv_freq.data(),
                        rows,     m.num_heads,          m.rope, RopePairs::interleaved};
    visit({.name = fmt::format("rope {} rows, {} x {}", rows, m.num_heads, m.rope),
           .flops = 3.0 * static_cast<double>(x.size()),
           .bytes = 8.0 * static_cast<double>(x.size()),
           .run = [&] { backend.rope(args); }});
  }
}

void silu_cases(Backend& backend, const ModelShape& m, const CaseOptions& o, const VisitCase& visit) {
  for (int64_t rows : o.rows) {
    const int64_t dim = 2 * m.hidden;
    const std::vector<float> gate = random_floats(rows * dim), up = random_floats(rows * dim, 5);
    std::vector<float> y(gate.size());
    const SiluMultiplyArgs args{gate.data(), up.data(), y.data(), rows, dim};
    visit({.name = fmt::format("silu_multiply {} rows of {}", rows, dim),
           .flops = 20.0 * static_cast<double>(rows * dim),
           .bytes = 12.0 * static_cast<double>(rows * dim),
           .run = [&] { backend.silu_multiply(args); }});
  }
}

using Cases = void (*)(Backend&, const ModelShape&, const CaseOptions&, const VisitCase&);
struct NamedCases {
  std::string name;
  Cases cases;
};
const std::vector<NamedCases>& all_cases() {
  static const std::vector<NamedCases> cases = {
      {"linear", linear_cases},       {"experts", expert_cases},
      {"index_select", select_cases}, {"sparse_attention", attention_cases},
      {"rms_norm", norm_cases},       {"rope", rope_cases},
      {"silu_multiply", silu_cases}};
  return cases;
}

}  // namespace

ModelShape model_shape(const std::string& name) {
  if (name == "bench-8l") return {name, 1536, 16, 512, 512, 192, 64, 256, 8, 128, 2048, 16, 4, 512, 8192};
  if (name == "glm") return {name, 6144, 64, 2048, 512, 192, 64, 256, 32, 128, 2048, 16, 8, 2048, 8192};
  if (name == "indexshare-tiny") return {name, 256, 6, 128, 128, 32, 32, 64, 2, 64, 128, 8, 2, 40, 4096};
  fail(ErrorCode::invalid_argument,
       "shape: expected \"bench-8l\", \"glm\" or \"indexshare-tiny\", found \"{}\"", name);
}

const std::vector<std::string>& op_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const NamedCases& each : all_cases()) out.push_back(each.name);
    return out;
  }();
  return names;
}

void for_each_case(Backend& backend, const ModelShape& shape, const CaseOptions& options,
                   const std::string& op, const VisitCase& visit) {
  for (const NamedCases& each : all_cases())
    if (each.name == op) return each.cases(backend, shape, options, visit);
  fail(ErrorCode::invalid_argument, "op: found \"{}\"", op);
}

}  // namespace indexshare
