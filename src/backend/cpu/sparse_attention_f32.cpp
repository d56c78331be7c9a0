// SPDX-License-Identifier: Apache-2.0
// Attention over a block of cached rows in f32 arithmetic. Steps of 64 rows are gathered and widened to f32
// once for all heads; logits have heads in lanes and keys in rows, outputs heads in rows and latent
// dimensions in lanes, so both are register tiles over the same gathered rows. Softmax is online from step to
// step.
#include "backend/cpu/sparse_attention_kernel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/sparse_attention_f32.cpp"
#include "backend/cpu/targets.h"
// After targets.h.
#include <hwy/highway.h>

#include "backend/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace indexshare {
namespace HWY_NAMESPACE {
namespace {

constexpr int64_t kLanesI = static_cast<int64_t>(kLanes);
constexpr int64_t kStep = 64;                    // gathered rows: 144 KiB of 576 f32, in the second cache
constexpr int kKeyRows = kLanes == 16 ? 8 : 4;   // keys of a logit tile
constexpr int kHeadRows = kLanes == 16 ? 8 : 4;  // heads of an output tile

// Floats from one gathered row to the next: room for what tiles read beyond it, and no power of two.
HWY_INLINE int64_t key_stride(const AttentionShape& shape) {
  return HWY_MAX((shape.dim + 15) / 16 * 16, shape.latent) + 16;
}

struct Step {
  Step(const AttentionShape& shape, std::byte* memory)
      : keys(reinterpret_cast<float*>(memory)),
        weights(keys + kStep * key_stride(shape)),
        rescale(weights + kStep * shape.heads),
        block_state(rescale + shape.heads) {}

  float* keys;     // [64, key_stride]
  float* weights;  // [64, heads] logits, then exp(logit - largest)
  float* rescale;  // [heads] what this step's new maximum makes of earlier sums
  float* block_state;
  int64_t size = 0;
};

size_t scratch_bytes(const AttentionShape& shape) {
  const int64_t step = kStep * (key_stride(shape) + shape.heads) + shape.heads;
  return static_cast<size_t>(step + shape.state_floats()) * sizeof(float);
}

size_t query_bytes(const AttentionShape& shape) {
  return static_cast<size_t>(shape.dim * shape.heads) * sizeof(float);
}

// queries[d, h], heads side by side; zeros for the heads that do not exist.
void arrange_queries(const AttentionShape& shape, const SparseAttentionArgs& a, int64_t row,
                     std::byte* memory) {
  auto* queries = reinterpret_cast<float*>(memory);
  const float* latent = a.query_latent + row * a.num_heads * a.latent_dim;
  const float* rope = a.query_rope + row * a.rope_row_stride;
  __builtin_memset(queries, 0, query_bytes(shape));
  for (int64_t h = 0; h < a.num_heads; ++h) {
    for (int64_t d = 0; d < a.latent_dim; ++d) queries[d * shape.heads + h] = latent[h * a.latent_dim + d];
    float* rest = queries + a.latent_dim * shape.heads + h;
    for (int64_t d = 0; d < a.rope_dim; ++d) rest[d * shape.heads] = rope[h * a.rope_head_stride + d];
  }
}

// code * scale, every group of 128 with its own.
HWY_INLINE void widen_codes(const std::byte* row, const LatentLayout& layout, float* to) {
  const hn::Rebind<int8_t, FloatTag> d8;
  const auto* codes = reinterpret_cast<const int8_t*>(row);
  for (int64_t i = 0; i < layout.num_codes;) {
    float scale;
    __builtin_memcpy(&scale, row + layout.scales_at + i / kLatentScaleGroup * 4, sizeof scale);
    const int64_t end = HWY_MIN(i + kLatentScaleGroup, layout.num_codes);
    for (; i + kLanesI <= end; i += kLanesI) {
      const auto integers = hn::PromoteTo(IntTag(), hn::LoadU(d8, codes + i));
      store(hn::Mul(hn::ConvertTo(FloatTag(), integers), broadcast(scale)), to + i);
    }
    for (; i < end; ++i) to[i] = static_cast<float>(codes[i]) * scale;
  }
}

HWY_INLINE void widen_row(const AttentionShape& shape, const std::byte* row, float* to) {
  const LatentLayout& layout = shape.rows;
  const auto widen_elements = [&](size_t at, int64_t begin) {
    widen_bf16(reinterpret_cast<const uint16_t*>(row + at), static_cast<size_t>(shape.dim - begin),
               to + begin);
  };
  if (shape.format == RowFormat::f32) {
    __builtin_memcpy(to, row, layout.row_bytes);
  } else if (shape.format == RowFormat::bf16) {
    widen_elements(0, 0);
  } else {
    widen_codes(row, layout, to);
    widen_elements(layout.tail_at, layout.num_codes);
  }
}

// Rows [begin, begin + size) of the block to f32, zeros up to whole tiles.
void gather(const AttentionShape& shape, const KeyBlock& block, int64_t begin, const Step& step) {
  const int64_t stride = key_stride(shape);
  for (int64_t i = 0; i < step.size; ++i) widen_row(shape, block.rows[begin + i], step.keys + i * stride);
  for (int64_t i = step.size; i % kKeyRows != 0; ++i)
    __builtin_memset(step.keys + i * stride, 0, static_cast<size_t>(shape.dim) * sizeof(float));
}

// Row i of the block or, beyond it, of the next; the last one where that ends too.
HWY_INLINE const std::byte* row_ahead(const JoinArgs& j, int64_t i) {
  if (i < j.now->size) return j.now->rows[i];
  const int64_t last = j.next->size - 1;
  return last < 0 ? j.now->rows[j.now->size - 1] : j.next->rows[HWY_MIN(i - j.now->size, last)];
}

// What a logit tile reads and writes.
struct LogitTile {
  const float* keys;     // [kKeyRows, key_stride]
  const float* queries;  // [dim, heads]
  float* weights;        // [kKeyRows, heads]
  int64_t key_stride, heads, dim;
  float scale;
  int64_t line_elements;  // of stored rows
  // Stored rows of the next step, fetched a line at a time between the FMAs: a burst of them would fill the
  // core's line buffers and stall it.
  const std::byte* ahead[kKeyRows];
};

// weights[key, head] for kKeyRows keys x V vectors of heads.
template <int V>
HWY_INLINE void logit_tile(const LogitTile& t, int64_t head) {
  Floats acc[kKeyRows][V];
  for (int r = 0; r < kKeyRows; ++r)
    for (int v = 0; v < V; ++v) acc[r][v] = hn::Zero(FloatTag());
  for (int64_t begin = 0; begin < t.dim; begin += t.line_elements) {
    for (int r = 0; r < kKeyRows; ++r) __builtin_prefetch(t.ahead[r] + begin / t.line_elements * 64);
    const int64_t end = HWY_MIN(begin + t.line_elements, t.dim);
    for (int64_t d = begin; d < end; ++d) {
      Floats q[V];
      for (int v = 0; v < V; ++v) q[v] = load(t.queries + d * t.heads + head + v * kLanesI);
      for (int r = 0; r < kKeyRows; ++r) {
        const Floats k = broadcast(t.keys[r * t.key_stride + d]);
        for (int v = 0; v < V; ++v) acc[r][v] = hn::MulAdd(k, q[v], acc[r][v]);
      }
    }
  }
  for (int r = 0; r < kKeyRows; ++r)
    for (int v = 0; v < V; ++v)
      store(hn::Mul(acc[r][v], broadcast(t.scale)), t.weights + r * t.heads + head + v * kLanesI);
}

// Logits of the step that starts at `begin` of the block.
void score(const AttentionShape& shape, const JoinArgs& j, int64_t begin, const Step& step) {
  LogitTile t{};
  t.queries = reinterpret_cast<const float*>(j.queries);
  t.key_stride = key_stride(shape), t.heads = shape.heads, t.dim = shape.dim, t.scale = shape.scale;
  t.line_elements = shape.format == RowFormat::f32 ? 16 : shape.format == RowFormat::bf16 ? 32 : 64;
  for (int64_t key = 0; key < step.size; key += kKeyRows) {
    t.keys = step.keys + key * t.key_stride;
    t.weights = step.weights + key * shape.heads;
    for (int r = 0; r < kKeyRows; ++r) t.ahead[r] = row_ahead(j, begin + kStep + key + r);
    int64_t h = 0;
    for (; h + 2 * kLanesI <= shape.heads; h += 2 * kLanesI) logit_tile<2>(t, h);
    for (; h < shape.heads; h += kLanesI) logit_tile<1>(t, h);
  }
}

// exp(a - b), 0 where a is -inf (b may be -inf too).
HWY_INLINE Floats weight_of(Floats a, Floats b) {
  const Floats lowest = broadcast(-__builtin_inff());
  return exponential(hn::Sub(a, hn::IfThenElse(hn::Eq(b, lowest), hn::Zero(FloatTag()), b)));
}

// Logits to weights of the step under its new maximum; sums and maxima updated.
void weigh(const AttentionShape& shape, const Step& b, const AttentionState& state) {
  for (int64_t h = 0; h < shape.heads; h += kLanesI) {
    const Floats before = load(state.reference + h);
    Floats largest = before;
    for (int64_t i = 0; i < b.size; ++i) largest = hn::Max(largest, load(b.weights + i * shape.heads + h));
    const Floats rescale = weight_of(before, largest);
    Floats sum = hn::Mul(load(state.sum + h), rescale);
    for (int64_t i = 0; i < b.size; ++i) {
      float* w = b.weights + i * shape.heads + h;
      const Floats weight = weight_of(load(w), largest);
      store(weight, w);
      sum = hn::Add(sum, weight);
    }
    store(largest, state.reference + h);
    store(sum, state.sum + h);
    store(rescale, b.rescale + h);
  }
}

// output[h, d] = output[h, d] * rescale[h] + sum_key weights[key, h] * keys[key, d] for kHeadRows heads x 2
// vectors.
HWY_INLINE void output_tile(const AttentionShape& shape, const Step& b, int64_t head, int64_t d,
                            float* output) {
  Floats acc[kHeadRows][2];
  for (int r = 0; r < kHeadRows; ++r) {
    const Floats rescale = broadcast(b.rescale[head + r]);
    float* o = output + (head + r) * shape.latent + d;
    acc[r][0] = hn::Mul(load(o), rescale);
    acc[r][1] = hn::Mul(load(o + kLanesI), rescale);
  }
  const float* weights = b.weights + head;
  const int64_t stride = key_stride(shape);
  const float* keys = b.keys + d;
  for (int64_t i = 0; i < b.size; ++i) {
    const Floats k0 = load(keys + i * stride), k1 = load(keys + i * stride + kLanesI);
    for (int r = 0; r < kHeadRows; ++r) {
      const Floats w = broadcast(weights[i * shape.heads + r]);
      acc[r][0] = hn::MulAdd(w, k0, acc[r][0]);
      acc[r][1] = hn::MulAdd(w, k1, acc[r][1]);
    }
  }
  for (int r = 0; r < kHeadRows; ++r) {
    float* o = output + (head + r) * shape.latent + d;
    store(acc[r][0], o);
    store(acc[r][1], o + kLanesI);
  }
}

// The state of one block.
void attend_block(const AttentionShape& shape, const JoinArgs& j, Step& step, float* memory) {
  const AttentionState state(memory, shape);
  for (int64_t h = 0; h < shape.heads; ++h) state.reference[h] = -__builtin_inff();
  __builtin_memset(state.sum, 0, static_cast<size_t>(shape.state_floats() - shape.heads) * sizeof(float));
  for (int64_t begin = 0; begin < j.now->size; begin += kStep) {
    step.size = HWY_MIN(kStep, j.now->size - begin);
    gather(shape, *j.now, begin, step);
    score(shape, j, begin, step);
    weigh(shape, step, state);
    for (int64_t d = 0; d < shape.latent; d += 2 * kLanesI)
      for (int64_t head = 0; head < shape.num_heads; head += kHeadRows)
        output_tile(shape, step, head, d, state.output);
  }
}

void merge(const AttentionShape& shape, float* into_memory, float* later_memory) {
  const AttentionState into(into_memory, shape), later(later_memory, shape);
  for (int64_t h = 0; h < shape.heads; h += kLanesI) {
    const Floats a = load(into.reference + h), b = load(later.reference + h), largest = hn::Max(a, b);
    const Floats keep = weight_of(a, largest), add = weight_of(b, largest);
    store(hn::MulAdd(load(later.sum + h), add, hn::Mul(load(into.sum + h), keep)), into.sum + h);
    store(largest, into.reference + h);
    store(keep, later.sum + h);  // spent: room for the two factors
    store(add, later.reference + h);
  }
  for (int64_t h = 0; h < shape.num_heads; ++h) {
    const Floats keep = broadcast(later.sum[h]), add = broadcast(later.reference[h]);
    for (int64_t d = h * shape.latent; d < (h + 1) * shape.latent; d += kLanesI)
      store(hn::MulAdd(load(later.output + d), add, hn::Mul(load(into.output + d), keep)), into.output + d);
  }
}

void join_block(const AttentionShape& shape, const JoinArgs& j, std::byte* scratch, float* state) {
  Step step(shape, scratch);
  if (j.first) return attend_block(shape, j, step, state);
  attend_block(shape, j, step, step.block_state);
  merge(shape, state, step.block_state);
}

void finish(const AttentionShape& shape, float* memory, float* output) {
  const AttentionState state(memory, shape);
  for (int64_t h = 0; h < shape.num_heads; ++h, output += shape.latent_dim) {
    float* from = state.output + h * shape.latent;
    const Floats share = broadcast(1 / state.sum[h]);
    int64_t d = 0;
    for (; d + kLanesI <= shape.latent_dim; d += kLanesI) store(hn::Mul(load(from + d), share), output + d);
    if (d == shape.latent_dim) continue;
    store(hn::Mul(load(from + d), share), from + d);
    __builtin_memcpy(output + d, from + d, static_cast<size_t>(shape.latent_dim - d) * sizeof(float));
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace indexshare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace indexshare {

HWY_EXPORT(scratch_bytes);
HWY_EXPORT(query_bytes);
HWY_EXPORT(arrange_queries);
HWY_EXPORT(join_block);
HWY_EXPORT(merge);
HWY_EXPORT(finish);

AttentionKernel f32_attention_kernel(size_t index) {
  return {HWY_DISPATCH_TABLE(scratch_bytes)[index],   HWY_DISPATCH_TABLE(query_bytes)[index],
          HWY_DISPATCH_TABLE(arrange_queries)[index], HWY_DISPATCH_TABLE(join_block)[index],
          HWY_DISPATCH_TABLE(merge)[index],           HWY_DISPATCH_TABLE(finish)[index]};
}

}  // namespace indexshare
#endif
