// SPDX-License-Identifier: Apache-2.0
// Attention over a block of cached rows with bf16 tiles: queries, dequantised rows and softmax weights are
// rounded to bf16, products and sums are f32. (Tiles take bf16 below 2^-126 for zero.)
//   logits  [keys x heads] = rows [keys x dims] * queries   [dims x heads], 16 keys at a time
//   output [heads x dims]  = weights [heads x keys] * latents [keys x dims], 32 or 64 dims at a time
// Tiles are gathered just before they are multiplied, from rows that were fetched to the second cache ahead:
// what is written fits the first cache, as writing beyond it costs most. Each row is so read twice: 16 keys x
// 32 dims as they are, the left factor of logits, and 32 keys x 32 dims with neighbouring keys side by side
// (tiles-inl.h), the right factor of the output. A softmax maximum is known before any weight is made:
// nothing is rescaled within a block.
#include "backend/cpu/sparse_attention_kernel.h"
#include "base/check.h"

// Last: tiles-inl.h lets the compiler use the instructions of these files.
#include "backend/cpu/tiles-inl.h"

#include "backend/cpu/cached_row_tiles-inl.h"
#include "backend/cpu/softmax_tiles-inl.h"

#if defined(INDEXSHARE_HAS_TILES)

namespace indexshare {

namespace {

using namespace amx;

constexpr int64_t kKeyTiles = kKeyBlock / kTileKeys;  // of a block
constexpr int64_t kRowTiles = 4;
// Tiles gathered before one is multiplied: a tile load waits for stores to its memory (measured: logits of 16
// heads a fifth faster than with none ahead).
constexpr int64_t kAhead = 2;

int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Compilers take tile loads for instructions that read no memory: what was stored before must not come later.
void stores_are_done() { asm volatile("" ::: "memory"); }

int64_t num_dim_tiles(const AttentionShape& shape) { return (shape.dim + 31) / 32; }  // of 32

struct Scratch16 {
  Scratch16(const AttentionShape& shape, std::byte* memory) {
    const auto take = [&](int64_t bytes) {
      std::byte* taken = memory + used;
      used += (bytes + 63) / 64 * 64;
      return taken;
    };
    rows = take(kRowTiles * kTileBytes);
    pairs = take(kKeyTiles * 2 * kTileBytes);
    weights = take(shape.heads / 16 * kKeyTiles * kTileBytes);
    products = reinterpret_cast<float*>(take(4 * kTileBytes));
    logits = reinterpret_cast<float*>(take(kKeyBlock * shape.heads * 4));
    keep = reinterpret_cast<float*>(take(shape.heads * 4));
    add = reinterpret_cast<float*>(take(shape.heads * 4));
    row_at = reinterpret_cast<const std::byte**>(take(kKeyBlock * static_cast<int64_t>(sizeof(void*))));
    zeros = take(static_cast<int64_t>(shape.rows.row_bytes) + 64);
  }

  std::byte* rows;           // [4] tiles of 16 keys x 32 dims bf16, in turns
  std::byte* pairs;          // [8][2] tiles of 16 pairs of keys x 16 dims x 2 bf16
  std::byte* weights;        // [heads/16][8] tiles of 16 heads x 32 keys bf16
  float* products;           // [4][16 heads, 16 dims]
  float* logits;             // [256, heads]
  float *keep, *add;         // [heads] factors of the earlier state and of the block's
  const std::byte** row_at;  // [256] the block's rows, then zeros
  std::byte* zeros;          // a cached row of zeros
  int64_t used = 0;
};

size_t scratch_bytes(const AttentionShape& shape) {
  return static_cast<size_t>(Scratch16(shape, nullptr).used);
}

// [heads/64][dims/32][4, or what is left of heads/16] tiles of 16 pairs of dims x 16 heads x 2 bf16: in the
// order they are read in.
size_t query_bytes(const AttentionShape& shape) {
  return static_cast<size_t>(shape.heads / 16 * num_dim_tiles(shape) * kTileBytes);
}

// ---- queries ----

void round_to_bf16(const float* from, int64_t count, std::byte* to) {
  for (int64_t i = 0; i < count; i += 16) {
    const auto mask = static_cast<__mmask16>((1u << smaller(count - i, 16)) - 1);
    const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(mask, from + i));
    _mm256_mask_storeu_epi16(to + 2 * i, mask, reinterpret_cast<__m256i>(rounded));
  }
}

void arrange_queries(const AttentionShape& shape, const SparseAttentionArgs& a, int64_t row,
                     std::byte* queries) {
  const int64_t dim_tiles = num_dim_tiles(shape);
  alignas(64) __m512i v[16];
  for (int64_t tile = 0; tile < shape.heads / 16; ++tile)
    for (int64_t k = 0; k < dim_tiles; ++k) {
      for (int64_t i = 0; i < 16; ++i) {
        const int64_t h = 16 * tile + i;
        alignas(64) std::byte dims[64] = {};
        if (h < a.num_heads) {
          const float* latent = a.query_latent + (row * a.num_heads + h) * a.latent_dim;
          const float* rope = a.query_rope + row * a.rope_row_stride + h * a.rope_head_stride;
          const int64_t begin = 32 * k, end = smaller(begin + 32, shape.dim);
          const int64_t split = begin < a.latent_dim ? smaller(end, a.latent_dim) : begin;
          round_to_bf16(latent + begin, split - begin, dims);
          round_to_bf16(rope + split - a.latent_dim, end - split, dims + 2 * (split - begin));
        }
        v[i] = _mm512_load_si512(dims);
      }
      transpose(v);
      const int64_t group = tile / 4 * 4, in_group = smaller(4, shape.heads / 16 - group);
      std::byte* to = queries + (group * dim_tiles + k * in_group + tile - group) * kTileBytes;
      for (int i = 0; i < 16; ++i) _mm512_store_si512(to + 64 * i, v[i]);
    }
}

// ---- fetching ahead ----

/// The rows of the next block, fetched one by one while outputs are summed: half of them, as far as that goes
/// (measured: fetching all, or during the logits too, is slower; loads of those 16 rows keep the memory
/// busy).
struct Ahead {
  const KeyBlock& block;
  int64_t num_lines, fetched = 0;

  void fetch() {
    if (fetched >= block.size) return;
    const std::byte* row = block.rows[fetched++];
    for (int64_t line = 0; line < num_lines; ++line) _mm_prefetch(row + 64 * line, _MM_HINT_T1);
  }
};

// ---- products ----

void zero_products() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// Logits of 16 rows and kTiles x 16 heads to logits [16, heads]. One tile's products wait for one another: a
// single tile of heads has two sums.
template <class Rows, int kTiles>
void score(const AttentionShape& shape, const Scratch16& scratch, const std::byte* const* rows,
           const std::byte* queries, float* logits) {
  const int64_t dim_tiles = num_dim_tiles(shape), stride = 4 * shape.heads;
  const auto gather = [&](int64_t k) {
    if (k < dim_tiles) gather_rows<Rows>(shape, rows, 32 * k, scratch.rows + k % kRowTiles * kTileBytes);
  };
  for (int64_t k = 0; k < kAhead; ++k) gather(k);
  zero_products();
  for (int64_t k = 0; k < dim_tiles; ++k, queries += kTiles * kTileBytes) {
    gather(k + kAhead);
    stores_are_done();
    _tile_loadd(4, scratch.rows + k % kRowTiles * kTileBytes, 64);
    _tile_loadd(5, queries, 64);
    if (kTiles == 1 && k % 2 != 0) {
      _tile_dpbf16ps(1, 4, 5);
      continue;
    }
    _tile_dpbf16ps(0, 4, 5);
    if constexpr (kTiles > 1) {
      _tile_loadd(6, queries + kTileBytes, 64);
      _tile_dpbf16ps(1, 4, 6);
    }
    if constexpr (kTiles > 2) {
      _tile_loadd(7, queries + 2 * kTileBytes, 64);
      _tile_dpbf16ps(2, 4, 7);
    }
    if constexpr (kTiles > 3) {
      _tile_loadd(5, queries + 3 * kTileBytes, 64);
      _tile_dpbf16ps(3, 4, 5);
    }
  }
  if constexpr (kTiles == 1) {
    _tile_stored(0, scratch.products, 64);
    _tile_stored(1, scratch.products + 256, 64);
    for (const float* from = scratch.products; from < scratch.products + 256;
         from += 16, logits += shape.heads)
      _mm512_storeu_ps(logits, _mm512_add_ps(_mm512_load_ps(from), _mm512_load_ps(from + 256)));
    return;
  }
  _tile_stored(0, logits, stride);
  _tile_stored(1, logits + 16, stride);
  if constexpr (kTiles > 2) _tile_stored(2, logits + 32, stride);
  if constexpr (kTiles > 3) _tile_stored(3, logits + 48, stride);
}

// Logits of 16 rows and all heads.
template <class Rows>
void score_rows(const AttentionShape& shape, const Scratch16& scratch, const std::byte* const* rows,
                const std::byte* queries, float* logits) {
  const int64_t head_bytes = num_dim_tiles(shape) * kTileBytes / 16;
  for (int64_t h = 0; h < shape.heads; h += 64) {
    const std::byte* q = queries + h * head_bytes;
    switch (shape.heads - h) {
      case 16:
        score<Rows, 1>(shape, scratch, rows, q, logits + h);
        break;
      case 32:
        score<Rows, 2>(shape, scratch, rows, q, logits + h);
        break;
      case 48:
        score<Rows, 3>(shape, scratch, rows, q, logits + h);
        break;
      default:
        score<Rows, 4>(shape, scratch, rows, q, logits + h);
    }
  }
}

// ---- softmax ----

// All heads' weights; the state's maxima and sums, and the factors its outputs take.
void weigh_block(const AttentionShape& shape, const JoinArgs& j, const Scratch16& scratch,
                 const AttentionState& state) {
  for (int64_t h = 0; h < shape.heads; h += 16) {
    const Softmax block =
        weigh(shape, scratch.logits + h, j.now->size, scratch.weights + h / 16 * kKeyTiles * kTileBytes);
    Softmax all = block;
    if (!j.first) {
      all = {_mm512_loadu_ps(state.largest + h), _mm512_loadu_ps(state.sum + h)};
      const JoinFactors f = join(all, block);
      _mm512_storeu_ps(scratch.keep + h, f.keep);
      _mm512_storeu_ps(scratch.add + h, f.add);
    }
    _mm512_storeu_ps(state.largest + h, all.largest);
    _mm512_storeu_ps(state.sum + h, all.sum);
  }
}

// ---- output ----

// The state's output of 16 heads x 32 dims joined with product(row, half) [16].
template <class Product>
void join_output(const AttentionShape& shape, const Scratch16& scratch, bool first, int64_t head, int64_t d,
                 float* output, const Product& product) {
  for (int64_t r = 0; r < 16; ++r) {
    Vector low = product(r, 0), high = product(r, 1);
    natural_order(low, high);
    float* to = output + (head + r) * shape.latent + d;
    if (!first) {
      const Vector keep = _mm512_set1_ps(scratch.keep[head + r]), add = _mm512_set1_ps(scratch.add[head + r]);
      low = _mm512_fmadd_ps(low, add, _mm512_mul_ps(_mm512_loadu_ps(to), keep));
      high = _mm512_fmadd_ps(high, add, _mm512_mul_ps(_mm512_loadu_ps(to + 16), keep));
    }
    _mm512_storeu_ps(to, low);
    _mm512_storeu_ps(to + 16, high);
  }
}

// Weights * latents of the block for kTiles x 16 heads from `head` on and 32 dims, to products [kTiles][2]
// tiles. A single tile of heads has two sums, of even and odd tiles of keys, at products and behind.
template <class Rows, int kTiles>
void multiply(const AttentionShape& shape, const KeyBlock& block, const Scratch16& scratch, int64_t head,
              int64_t d, Ahead& ahead) {
  const std::byte* weights = scratch.weights + head / 16 * kKeyTiles * kTileBytes;
  const std::byte* pairs = scratch.pairs;
  float* products = scratch.products;
  const auto gather = [&](int64_t key) {
    if (head == 0 && key < block.size)
      gather_pairs<Rows>(shape, scratch.row_at + key, d, scratch.pairs + key / kTileKeys * (2 * kTileBytes));
  };
  for (int64_t i = 0; i < kAhead; ++i) gather(i * kTileKeys);
  zero_products();
  for (int64_t key = 0; key < block.size; key += kTileKeys, weights += kTileBytes, pairs += 2 * kTileBytes) {
    gather(key + kAhead * kTileKeys);
    stores_are_done();
    _tile_loadd(4, weights, 64);
    _tile_loadd(6, pairs, 64);
    _tile_loadd(7, pairs + kTileBytes, 64);
    if (kTiles == 1 && key / kTileKeys % 2 != 0) {
      _tile_dpbf16ps(2, 4, 6);
      _tile_dpbf16ps(3, 4, 7);
    } else {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kTiles > 1) {
      _tile_loadd(5, weights + kKeyTiles * kTileBytes, 64);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    if (head == 0) ahead.fetch();
  }
  _tile_stored(0, products, 64);
  _tile_stored(1, products + 256, 64);
  _tile_stored(2, products + 512, 64);
  _tile_stored(3, products + 768, 64);
}

// The same for 16 heads in all and 64 dims, to products [4] tiles: two neighbouring lines of every row at a
// time, each needed once, so that a ring holds the pairs. (Measured: 11 % less time for the whole op than 32
// dims, at 128K without fetching ahead, which costs here as much as it saves.)
template <class Rows>
void multiply_wide(const AttentionShape& shape, const KeyBlock& block, const Scratch16& scratch, int64_t d) {
  constexpr int64_t kRing = 4, kStepBytes = 4 * kTileBytes;
  const std::byte* weights = scratch.weights;
  float* products = scratch.products;
  const auto gather = [&](int64_t key) {
    if (key >= block.size) return;
    std::byte* to = scratch.pairs + key / kTileKeys % kRing * kStepBytes;
    gather_pairs<Rows>(shape, scratch.row_at + key, d, to);
    gather_pairs<Rows>(shape, scratch.row_at + key, d + 32, to + 2 * kTileBytes);
  };
  gather(0);
  zero_products();
  for (int64_t key = 0; key < block.size; key += kTileKeys, weights += kTileBytes) {
    gather(key + kTileKeys);
    stores_are_done();
    const std::byte* pairs = scratch.pairs + key / kTileKeys % kRing * kStepBytes;
    _tile_loadd(4, weights, 64);
    _tile_loadd(5, pairs, 64);
    _tile_dpbf16ps(0, 4, 5);
    _tile_loadd(6, pairs + kTileBytes, 64);
    _tile_dpbf16ps(1, 4, 6);
    _tile_loadd(7, pairs + 2 * kTileBytes, 64);
    _tile_dpbf16ps(2, 4, 7);
    _tile_loadd(5, pairs + 3 * kTileBytes, 64);
    _tile_dpbf16ps(3, 4, 5);
  }
  _tile_stored(0, products, 64);
  _tile_stored(1, products + 256, 64);
  _tile_stored(2, products + 512, 64);
  _tile_stored(3, products + 768, 64);
}

template <class Rows>
void accumulate_wide(const AttentionShape& shape, const JoinArgs& j, const Scratch16& scratch,
                     float* output) {
  for (int64_t d = 0; d < shape.latent; d += 64) {
    multiply_wide<Rows>(shape, *j.now, scratch, d);
    for (int64_t n = 0; n < 2; ++n)
      join_output(shape, scratch, j.first, 0, d + 32 * n, output, [&](int64_t r, int64_t half) {
        return _mm512_load_ps(scratch.products + 512 * n + 256 * half + 16 * r);
      });
  }
}

// Weights * latents of the block, joined to the state.
template <class Rows>
void accumulate(const AttentionShape& shape, const JoinArgs& j, const Scratch16& scratch, Ahead& ahead,
                float* output) {
  if (shape.heads == 16) return accumulate_wide<Rows>(shape, j, scratch, output);
  const float* products = scratch.products;
  for (int64_t d = 0; d < shape.latent; d += 32) {
    int64_t head = 0;
    for (; head + 32 <= shape.heads; head += 32) {
      multiply<Rows, 2>(shape, *j.now, scratch, head, d, ahead);
      for (int64_t n = 0; n < 2; ++n)
        join_output(shape, scratch, j.first, head + 16 * n, d, output, [&](int64_t r, int64_t half) {
          return _mm512_load_ps(products + 512 * n + 256 * half + 16 * r);
        });
    }
    if (head == shape.heads) continue;
    multiply<Rows, 1>(shape, *j.now, scratch, head, d, ahead);
    join_output(shape, scratch, j.first, head, d, output, [&](int64_t r, int64_t half) {
      const float* even = products + 256 * half + 16 * r;
      return _mm512_add_ps(_mm512_load_ps(even), _mm512_load_ps(even + 512));
    });
  }
}

template <class Rows>
void score_block(const AttentionShape& shape, const JoinArgs& j, const Scratch16& scratch) {
  for (int64_t begin = 0; begin < j.now->size; begin += 16)
    score_rows<Rows>(shape, scratch, scratch.row_at + begin, j.queries, scratch.logits + begin * shape.heads);
}

template <class Rows>
void join_rows(const AttentionShape& shape, const JoinArgs& j, const Scratch16& scratch,
               const AttentionState& state) {
  Ahead ahead{*j.next, static_cast<int64_t>(shape.rows.row_bytes + 63) / 64};
  score_block<Rows>(shape, j, scratch);
  weigh_block(shape, j, scratch, state);
  accumulate<Rows>(shape, j, scratch, ahead, state.output);
}

void join_block(const AttentionShape& shape, const JoinArgs& j, std::byte* memory, float* state_memory) {
  const amx::TileScope tiles;
  const Scratch16 scratch(shape, memory);
  __builtin_memset(scratch.zeros, 0, shape.rows.row_bytes);
  for (int64_t i = 0; i < kKeyBlock; ++i)
    scratch.row_at[i] = i < j.now->size ? j.now->rows[i] : scratch.zeros;
  const AttentionState state(state_memory, shape);
  if (shape.format == RowFormat::int8) return join_rows<Int8Rows>(shape, j, scratch, state);
  const bool whole = shape.dim % 32 == 0 && shape.latent <= shape.dim;
  whole ? join_rows<Bf16Rows<true>>(shape, j, scratch, state)
        : join_rows<Bf16Rows<false>>(shape, j, scratch, state);
}

void merge(const AttentionShape& shape, float* into_memory, float* later_memory) {
  const AttentionState into(into_memory, shape), later(later_memory, shape);
  for (int64_t h = 0; h < shape.heads; h += 16) {
    Softmax all{_mm512_loadu_ps(into.largest + h), _mm512_loadu_ps(into.sum + h)};
    const JoinFactors f = join(all, {_mm512_loadu_ps(later.largest + h), _mm512_loadu_ps(later.sum + h)});
    _mm512_storeu_ps(into.largest + h, all.largest);
    _mm512_storeu_ps(into.sum + h, all.sum);
    _mm512_storeu_ps(later.largest + h, f.keep);  // spent: room for the two factors
    _mm512_storeu_ps(later.sum + h, f.add);
  }
  for (int64_t h = 0; h < shape.num_heads; ++h) {
    const Vector keep = _mm512_set1_ps(later.largest[h]), add = _mm512_set1_ps(later.sum[h]);
    float* to = into.output + h * shape.latent;
    const float* from = later.output + h * shape.latent;
    for (int64_t d = 0; d < shape.latent; d += 16) {
      const Vector kept = _mm512_mul_ps(_mm512_loadu_ps(to + d), keep);
      _mm512_storeu_ps(to + d, _mm512_fmadd_ps(_mm512_loadu_ps(from + d), add, kept));
    }
  }
}

}  // namespace

void use_attention_tiles(AttentionKernel& kernel) {
  kernel.scratch_bytes = scratch_bytes;
  kernel.query_bytes = query_bytes;
  kernel.arrange_queries = arrange_queries;
  kernel.join_block = join_block;
  kernel.merge = merge;
}

}  // namespace indexshare

#else

namespace indexshare {
void use_attention_tiles(AttentionKernel&) {
  fail(ErrorCode::internal, "attention tiles: not in this build");
}
}  // namespace indexshare

#endif
