// SPDX-License-Identifier: Apache-2.0
//   logit(h, s) = (query_latent[h] . latent[s] + query_rope[h] . rope[s]) * scale
//   output[h] = sum_s softmax(logit)(s) * latent[s]   over the row's list of s, all s <= t where there is
//   none
// A list is cut into chunks and a chunk into blocks of 64, by index in the list and its length alone. A
// block's rows are gathered and widened to f32 once for all heads; logits have heads in lanes and keys in
// rows, outputs heads in rows and latent dimensions in lanes, so both are register tiles over the same
// gathered rows. Softmax is online from block to block; chunks start afresh and merge in ascending order.
// Work: whole rows where there are many, else (row, chunk) pairs whose states merge afterwards: the same
// sums.
#include <algorithm>
#include <limits>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/latents.h"
#include "base/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/sparse_attention.cpp"
#include "backend/cpu/targets.h"
// After targets.h.
#include <hwy/highway.h>

#include "backend/cpu/vector-inl.h"

#ifndef INDEXSHARE_CPU_SPARSE_ATTENTION_ONCE_
#define INDEXSHARE_CPU_SPARSE_ATTENTION_ONCE_
namespace indexshare {

constexpr int64_t kKeyBlock = 64;   // gathered rows: 144 KiB of 576 f32, in the second cache
constexpr int64_t kMinChunk = 256;  // long enough that merging states costs under 1 %
constexpr int64_t kMaxChunks = 64;  // bounds the states of one row

/// Dimensions rounded up to whole register tiles.
struct AttentionShape {
  explicit AttentionShape(const SparseAttentionArgs& args)
      : heads((args.num_heads + 15) / 16 * 16),
        latent((args.latent_dim + 31) / 32 * 32),
        key_stride(std::max((args.latent_dim + args.rope_dim + 15) / 16 * 16, latent) + 16) {}

  int64_t state_floats() const { return 2 * heads + heads * latent; }
  int64_t scratch_floats(const SparseAttentionArgs& args) const {
    return kKeyBlock * key_stride + (args.latent_dim + args.rope_dim) * heads + kKeyBlock * heads + heads;
  }

  int64_t heads, latent, key_stride;
};

/// Unnormalised softmax over part of a list: largest logit [heads], sum of weights [heads], output [heads,
/// latent].
struct AttentionState {
  AttentionState(float* memory, const AttentionShape& shape)
      : largest(memory), sum(memory + shape.heads), output(memory + 2 * shape.heads) {}
  float *largest, *sum, *output;
};

/// Elements [begin, end) of a row's list.
struct ChunkArgs {
  const SparseAttentionArgs* args;
  const SequenceRows* sequence;
  int64_t row, begin, end;
  int64_t list_end;      // beyond the chunk: what to fetch ahead
  bool arrange_queries;  // false where the scratch still holds this row's
  const std::byte* pages;
  size_t row_bytes, page_stride;
};

}  // namespace indexshare
#endif

HWY_BEFORE_NAMESPACE();
namespace indexshare {
namespace HWY_NAMESPACE {

constexpr int64_t kLanesI = static_cast<int64_t>(kLanes);
constexpr int kKeyRows = kLanes == 16 ? 8 : 4;   // keys of a logit tile
constexpr int kHeadRows = kLanes == 16 ? 8 : 4;  // heads of an output tile

struct Block {
  float* keys;     // [64, key_stride]
  float* queries;  // [latent_dim + rope_dim, heads]
  float* weights;  // [64, heads] logits, then exp(logit - largest)
  float* rescale;  // [heads] what this block's new maximum makes of earlier sums
  int64_t size;
};

HWY_INLINE const std::byte* stored_row(const ChunkArgs& c, int64_t index) {
  const int64_t page_size = c.args->cache.page_size;
  int64_t page, offset;
  if (c.args->slots) {
    const int64_t slot = c.args->slots[c.row * c.args->width + index];
    page = slot / page_size;
    offset = slot % page_size;
  } else {
    page = c.sequence->page_table[index / page_size];
    offset = index % page_size;
  }
  return c.pages + static_cast<size_t>(page) * c.page_stride + static_cast<size_t>(offset) * c.row_bytes;
}

// Rows [begin, begin + size) of the list to f32, zeros up to whole tiles.
void gather(const ChunkArgs& c, const AttentionShape& shape, int64_t begin, const Block& block) {
  const int64_t dim = c.args->cache.row_dim;
  for (int64_t i = 0; i < block.size; ++i) {
    float* to = block.keys + i * shape.key_stride;
    const std::byte* from = stored_row(c, begin + i);
    if (c.args->cache.format == RowFormat::bf16) {
      widen_bf16(reinterpret_cast<const uint16_t*>(from), static_cast<size_t>(dim), to);
    } else {
      __builtin_memcpy(to, from, c.row_bytes);
    }
  }
  for (int64_t i = block.size; i % kKeyRows != 0; ++i)
    __builtin_memset(block.keys + i * shape.key_stride, 0, static_cast<size_t>(dim) * sizeof(float));
}

// queries[d, h], heads side by side; zeros for the heads that do not exist.
void arrange_queries(const ChunkArgs& c, const AttentionShape& shape, float* queries) {
  const SparseAttentionArgs& a = *c.args;
  const float* latent = a.query_latent + c.row * a.num_heads * a.latent_dim;
  const float* rope = a.query_rope + c.row * a.rope_row_stride;
  __builtin_memset(queries, 0,
                   static_cast<size_t>((a.latent_dim + a.rope_dim) * shape.heads) * sizeof(float));
  for (int64_t h = 0; h < a.num_heads; ++h) {
    for (int64_t d = 0; d < a.latent_dim; ++d) queries[d * shape.heads + h] = latent[h * a.latent_dim + d];
    float* rest = queries + a.latent_dim * shape.heads + h;
    for (int64_t d = 0; d < a.rope_dim; ++d) rest[d * shape.heads] = rope[h * a.rope_head_stride + d];
  }
}

// What a logit tile reads and writes.
struct LogitTile {
  const float* keys;     // [kKeyRows, key_stride]
  const float* queries;  // [dim, heads]
  float* weights;        // [kKeyRows, heads]
  int64_t key_stride, heads, dim;
  float scale;
  int64_t line_elements;  // of stored rows
  // Stored rows of the next block, fetched a line at a time between the FMAs: a burst of them would fill the
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

// Logits of the block that starts at `begin` of the list.
void score_block(const ChunkArgs& c, const AttentionShape& shape, int64_t begin, const Block& b) {
  const SparseAttentionArgs& a = *c.args;
  LogitTile t{nullptr, b.queries, nullptr, shape.key_stride, shape.heads, a.latent_dim + a.rope_dim,
              a.scale, {},        0};
  t.line_elements = a.cache.format == RowFormat::f32 ? 16 : 32;
  for (int64_t key = 0; key < b.size; key += kKeyRows) {
    t.keys = b.keys + key * shape.key_stride;
    t.weights = b.weights + key * shape.heads;
    for (int r = 0; r < kKeyRows; ++r)
      t.ahead[r] = stored_row(c, HWY_MIN(begin + kKeyBlock + key + r, c.list_end - 1));
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

// Logits to weights under the new maximum, sums and maxima updated.
void weigh_block(const AttentionShape& shape, const Block& b, const AttentionState& state) {
  for (int64_t h = 0; h < shape.heads; h += kLanesI) {
    const Floats before = load(state.largest + h);
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
    store(largest, state.largest + h);
    store(sum, state.sum + h);
    store(rescale, b.rescale + h);
  }
}

// output[h, d] = output[h, d] * rescale[h] + sum_key weights[key, h] * keys[key, d] for kHeadRows heads x 2
// vectors.
HWY_INLINE void output_tile(const AttentionShape& shape, const Block& b, int64_t head, int64_t d,
                            float* output) {
  Floats acc[kHeadRows][2];
  for (int r = 0; r < kHeadRows; ++r) {
    const Floats rescale = broadcast(b.rescale[head + r]);
    float* o = output + (head + r) * shape.latent + d;
    acc[r][0] = hn::Mul(load(o), rescale);
    acc[r][1] = hn::Mul(load(o + kLanesI), rescale);
  }
  const float* weights = b.weights + head;
  const float* keys = b.keys + d;
  for (int64_t i = 0; i < b.size; ++i) {
    const Floats k0 = load(keys + i * shape.key_stride), k1 = load(keys + i * shape.key_stride + kLanesI);
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

// The state of one chunk of a row's list.
// @param scratch AttentionShape::scratch_floats()  @param memory AttentionShape::state_floats()
void attend_chunk(const ChunkArgs& c, const AttentionShape& shape, float* scratch, float* memory) {
  const SparseAttentionArgs& a = *c.args;
  const AttentionState state(memory, shape);
  Block b;
  b.keys = scratch;
  b.queries = b.keys + kKeyBlock * shape.key_stride;
  b.weights = b.queries + (a.latent_dim + a.rope_dim) * shape.heads;
  b.rescale = b.weights + kKeyBlock * shape.heads;
  std::fill_n(state.largest, shape.heads, -std::numeric_limits<float>::infinity());
  std::fill_n(state.sum, shape.heads + shape.heads * shape.latent, 0.0f);
  if (c.arrange_queries) arrange_queries(c, shape, b.queries);
  for (int64_t begin = c.begin; begin < c.end; begin += kKeyBlock) {
    b.size = HWY_MIN(kKeyBlock, c.end - begin);
    gather(c, shape, begin, b);
    score_block(c, shape, begin, b);
    weigh_block(shape, b, state);
    for (int64_t d = 0; d < shape.latent; d += 2 * kLanesI)
      for (int64_t head = 0; head < a.num_heads; head += kHeadRows)
        output_tile(shape, b, head, d, state.output);
  }
}

// into = into joined with the state of later keys.
void merge_states(const AttentionShape& shape, int64_t num_heads, float* into_memory, float* later_memory) {
  const AttentionState into(into_memory, shape), later(later_memory, shape);
  for (int64_t h = 0; h < shape.heads; h += kLanesI) {
    const Floats a = load(into.largest + h), b = load(later.largest + h), largest = hn::Max(a, b);
    const Floats keep = weight_of(a, largest), add = weight_of(b, largest);
    store(hn::MulAdd(load(later.sum + h), add, hn::Mul(load(into.sum + h), keep)), into.sum + h);
    store(largest, into.largest + h);
    store(keep, later.sum + h);  // spent: room for the two factors
    store(add, later.largest + h);
  }
  for (int64_t h = 0; h < num_heads; ++h) {
    const Floats keep = broadcast(later.sum[h]), add = broadcast(later.largest[h]);
    for (int64_t d = h * shape.latent; d < (h + 1) * shape.latent; d += kLanesI)
      store(hn::MulAdd(load(later.output + d), add, hn::Mul(load(into.output + d), keep)), into.output + d);
  }
}

void finish_row(const SparseAttentionArgs& a, const AttentionShape& shape, float* memory, float* output) {
  const AttentionState state(memory, shape);
  for (int64_t h = 0; h < a.num_heads; ++h) {
    float* from = state.output + h * shape.latent;
    const Floats sum = broadcast(state.sum[h]);
    for (int64_t d = 0; d < shape.latent; d += kLanesI) store(hn::Div(load(from + d), sum), from + d);
    __builtin_memcpy(output + h * a.latent_dim, from, static_cast<size_t>(a.latent_dim) * sizeof(float));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace indexshare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace indexshare {

HWY_EXPORT(attend_chunk);
HWY_EXPORT(merge_states);
HWY_EXPORT(finish_row);

/// The kernels of the chosen instruction set and what every row shares.
struct AttentionRun {
  const SparseAttentionArgs& args;
  AttentionShape shape;
  size_t table_index;
  size_t row_bytes, page_stride;

  int64_t count(const SequenceRows& s, int64_t row) const {
    return args.slots ? args.counts[row] : s.first_position + (row - s.row_begin) + 1;
  }
  float* output(int64_t row) const { return args.output + row * args.num_heads * args.latent_dim; }

  void attend(const SequenceRows& s, int64_t row, int64_t begin, int64_t end, bool arrange_queries,
              float* scratch, float* state) const {
    const ChunkArgs chunk{&args,
                          &s,
                          row,
                          begin,
                          end,
                          count(s, row),
                          arrange_queries,
                          static_cast<const std::byte*>(args.cache.pages),
                          row_bytes,
                          page_stride};
    HWY_DISPATCH_TABLE(attend_chunk)[table_index](chunk, shape, scratch, state);
  }
  void merge(float* into, float* later) const {
    HWY_DISPATCH_TABLE(merge_states)[table_index](shape, args.num_heads, into, later);
  }
  void finish(int64_t row, float* state) const {
    HWY_DISPATCH_TABLE(finish_row)[table_index](args, shape, state, output(row));
  }
  // Rows without keys: zeros, or NaN where the selection was rejected.
  void fill(int64_t row, int64_t count) const {
    std::fill_n(output(row), args.num_heads * args.latent_dim,
                count < 0 ? std::numeric_limits<float>::quiet_NaN() : 0.0f);
  }
};

namespace {

// Chunk boundaries depend on the list's length alone.
int64_t chunk_size(int64_t count) {
  const int64_t even = (count + kMaxChunks - 1) / kMaxChunks;
  return std::max(kMinChunk, (even + kKeyBlock - 1) / kKeyBlock * kKeyBlock);
}

int64_t num_chunks(int64_t count) {
  return count <= 0 ? 0 : (count + chunk_size(count) - 1) / chunk_size(count);
}

constexpr int64_t kWorthAThread = 1'000'000;               // multiply-adds
constexpr int64_t kStateFloats = (int64_t{64} << 20) / 4;  // of split rows at a time

template <class Visit>
void for_each_row(const SparseAttentionArgs& args, const Visit& visit) {
  for (const SequenceRows& s : args.sequences)
    for (int64_t row = s.row_begin; row < s.row_end; ++row) visit(s, row);
}

}  // namespace

void CpuBackend::sparse_attention(const SparseAttentionArgs& args) {
  ENSURE(args.cache.row_dim > 0 && args.cache.row_dim == args.latent_dim + args.rope_dim,
         "sparse_attention: rows of {} for {} + {}", args.cache.row_dim, args.latent_dim, args.rope_dim);
  ENSURE(args.cache.page_size > 0 && args.num_heads > 0, "sparse_attention: page_size {}, {} heads",
         args.cache.page_size, args.num_heads);
  const AttentionRun run{args, AttentionShape(args), path_.table_index, LatentLayout(args.cache).row_bytes,
                         LatentLayout(args.cache).page_bytes};
  int64_t total = 0, rows = 0;
  for_each_row(args, [&](const SequenceRows& s, int64_t row) {
    const int64_t count = run.count(s, row);
    ENSURE(!args.slots || count <= args.width, "sparse_attention: {} positions in a width of {}", count,
           args.width);
    total += std::max<int64_t>(count, 0);
    ++rows;
  });
  const int64_t cost = total * args.num_heads * (2 * args.latent_dim + args.rope_dim);
  const int64_t shares = std::clamp<int64_t>(cost / kWorthAThread, 1, pool_.size());
  if (shares == 1 || rows >= 4 * shares) {
    attend_rows(run, total, shares);
  } else {
    attend_chunks(run, shares);
  }
}

// Whole rows, cut into shares of about equal numbers of keys.
void CpuBackend::attend_rows(const AttentionRun& run, int64_t total, int64_t shares) {
  const auto floats = static_cast<size_t>(run.shape.scratch_floats(run.args) + 2 * run.shape.state_floats());
  parallel(shares, 1, [&](int64_t share_begin, int64_t share_end, int worker) {
    float* scratch = worker_scratch_[static_cast<size_t>(worker)].floats(floats);
    float* state = scratch + run.shape.scratch_floats(run.args);
    float* later = state + run.shape.state_floats();
    const int64_t low = total * share_begin / shares, high = total * share_end / shares;
    int64_t start = 0;
    for_each_row(run.args, [&](const SequenceRows& s, int64_t row) {
      const int64_t count = run.count(s, row), at = start;
      start += std::max<int64_t>(count, 0);
      if (count <= 0) {
        if (share_begin == 0) run.fill(row, count);
        return;
      }
      if (at < low || at >= high) return;
      const int64_t size = chunk_size(count);
      run.attend(s, row, 0, std::min(size, count), true, scratch, state);
      for (int64_t begin = size; begin < count; begin += size) {
        run.attend(s, row, begin, std::min(begin + size, count), false, scratch, later);
        run.merge(state, later);
      }
      run.finish(row, state);
    });
  });
}

// Few rows: all chunks of some rows at once, then their states merge row by row.
void CpuBackend::attend_chunks(const AttentionRun& run, int64_t shares) {
  struct Item {
    const SequenceRows* sequence;
    int64_t row, begin, end;
  };
  std::vector<Item> items;
  const int64_t state_floats = run.shape.state_floats();
  const auto scratch_floats = static_cast<size_t>(run.shape.scratch_floats(run.args));
  const auto run_items = [&] {
    const auto num_items = static_cast<int64_t>(items.size());
    float* states = scratch_.floats(static_cast<size_t>(num_items * state_floats));
    parallel(num_items, std::max<int64_t>(1, num_items / (4 * shares)),
             [&](int64_t begin, int64_t end, int worker) {
               float* scratch = worker_scratch_[static_cast<size_t>(worker)].floats(scratch_floats);
               for (int64_t i = begin; i < end; ++i) {
                 const Item& item = items[static_cast<size_t>(i)];
                 run.attend(*item.sequence, item.row, item.begin, item.end, true, scratch,
                            states + i * state_floats);
               }
             });
    for (int64_t i = 0, first = 0; i < num_items; ++i) {
      const int64_t row = items[static_cast<size_t>(i)].row;
      if (items[static_cast<size_t>(i)].begin == 0) {
        first = i;
      } else {
        run.merge(states + first * state_floats, states + i * state_floats);
      }
      if (i + 1 == num_items || items[static_cast<size_t>(i + 1)].row != row)
        run.finish(row, states + first * state_floats);
    }
    items.clear();
  };
  for_each_row(run.args, [&](const SequenceRows& s, int64_t row) {
    const int64_t count = run.count(s, row);
    if (count <= 0) return run.fill(row, count);
    if (static_cast<int64_t>(items.size()) + num_chunks(count) >
        std::max(kMaxChunks, kStateFloats / state_floats))
      run_items();
    const int64_t size = chunk_size(count);
    for (int64_t begin = 0; begin < count; begin += size)
      items.push_back({&s, row, begin, std::min(begin + size, count)});
  });
  run_items();
}

}  // namespace indexshare
#endif
