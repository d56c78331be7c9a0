// SPDX-License-Identifier: Apache-2.0
// Attention over a block of cached rows with bf16 tiles: queries, dequantised rows and softmax weights are
// rounded to bf16, products and sums are f32. (Tiles take bf16 below 2^-126 for zero.)
//   logits  [keys x heads] = rows [keys x dims] * queries   [dims x heads], 64 keys at a time
//   output [heads x dims]  = weights [heads x keys] * latents [keys x dims], the whole block at once
// A gathered row is written twice: as it is, which is the left factor of logits, and side by side with its
// neighbour, as the right factor of the output wants keys (tiles-inl.h). A softmax maximum is known before
// any weight is made, so nothing is rescaled within a block.
#include "backend/cpu/sparse_attention_kernel.h"
#include "base/check.h"

// Last: tiles-inl.h lets the compiler use the instructions of these files.
#include "backend/cpu/tiles-inl.h"

#if defined(INDEXSHARE_HAS_TILES)

// g++ 12 takes the deliberately undefined operands inside many AVX-512 intrinsics for mistakes (GCC bug
// 105593).
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

namespace indexshare {

namespace {

constexpr int64_t kStep = 64;      // keys gathered and scored at a time
constexpr int64_t kTileKeys = 32;  // keys of a weight tile
constexpr int64_t kSteps = kKeyBlock / kStep, kKeyTiles = kKeyBlock / kTileKeys;
constexpr int64_t kMost = 16;  // rows of a tile, lanes of a vector

using amx::kTileBytes;

int64_t round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }
int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Compilers take tile loads for instructions that read no memory: what was stored before must not come later.
void stores_are_done() { asm volatile("" ::: "memory"); }

int64_t num_dim_tiles(const AttentionShape& shape) { return (shape.dim + 31) / 32; }  // of 32

// Bytes from one gathered row to the next: room for what is read beyond it, and no power of two.
int64_t row_stride(const AttentionShape& shape) {
  const int64_t dims = 32 * num_dim_tiles(shape);
  return 2 * (dims > shape.latent ? dims : shape.latent) + 64;
}

struct Scratch16 {
  Scratch16(const AttentionShape& shape, std::byte* memory) {
    const auto take = [&](int64_t bytes) {
      std::byte* taken = memory + used;
      used += bytes;
      return taken;
    };
    rows = take(kStep * row_stride(shape));
    pairs = take(kKeyTiles * shape.latent / 16 * kTileBytes);
    weights = take(shape.heads / 16 * kKeyTiles * kTileBytes);
    products = reinterpret_cast<float*>(take(4 * kTileBytes));
    logits = reinterpret_cast<float*>(take(kKeyBlock * shape.heads * 4));
    keep = reinterpret_cast<float*>(take(shape.heads * 4));
    add = reinterpret_cast<float*>(take(shape.heads * 4));
  }

  std::byte* rows;     // [64, row_stride] bf16
  std::byte* pairs;    // [8][latent/16] tiles of 16 pairs of keys x 16 dims x 2 bf16
  std::byte* weights;  // [heads/16][8] tiles of 16 heads x 32 keys bf16
  float* products;     // [4][16 heads, 16 dims]
  float* logits;       // [256, heads]
  float *keep, *add;   // [heads] factors of the earlier state and of the block's
  int64_t used = 0;
};

size_t scratch_bytes(const AttentionShape& shape) {
  return static_cast<size_t>(Scratch16(shape, nullptr).used);
}

// [heads/16][dims/32] tiles of 16 pairs of dims x 16 heads x 2 bf16, behind one row of queries as they come.
size_t query_bytes(const AttentionShape& shape) {
  return static_cast<size_t>(shape.heads / 16 * num_dim_tiles(shape) * kTileBytes);
}

// ---- vectors ----

using Vector = __m512;

// exp to 2 ulp; NaN stays NaN, 0 below -104.
Vector exponential(Vector x) {
  // max() gives its second operand where one is NaN.
  x = _mm512_max_ps(_mm512_set1_ps(-104.0f), x);
  const Vector n =
      _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT);
  // ln 2 in two parts, the first short enough for exact products.
  Vector r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  Vector p = _mm512_set1_ps(1.9875691500e-4f);
  constexpr float kRest[] = {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
                             5.0000001201e-1f};
  for (float c : kRest) p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
  p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r);
  return _mm512_scalef_ps(_mm512_add_ps(p, _mm512_set1_ps(1.0f)), n);
}

// Largest logit to what is subtracted: exp(-inf - -inf) counts as 0.
Vector shift_of(Vector largest) {
  const __mmask16 lowest = _mm512_cmp_ps_mask(largest, _mm512_set1_ps(-__builtin_inff()), _CMP_EQ_OQ);
  return _mm512_mask_mov_ps(largest, lowest, _mm512_setzero_ps());
}

// 16 x 16 dwords, in place.
void transpose(__m512i v[16]) {
  __m512i t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; ++j) {
      v[i + 2 * j] = _mm512_unpacklo_epi64(t[i + j], t[i + 2 + j]);
      v[i + 2 * j + 1] = _mm512_unpackhi_epi64(t[i + j], t[i + 2 + j]);
    }
  // v[4b + c], lane l: rows 4b .. 4b+3 of column 4l + c.
  for (int c = 0; c < 4; ++c) {
    t[c] = _mm512_shuffle_i32x4(v[c], v[4 + c], 0x88);
    t[4 + c] = _mm512_shuffle_i32x4(v[c], v[4 + c], 0xdd);
    t[8 + c] = _mm512_shuffle_i32x4(v[8 + c], v[12 + c], 0x88);
    t[12 + c] = _mm512_shuffle_i32x4(v[8 + c], v[12 + c], 0xdd);
  }
  for (int c = 0; c < 4; ++c) {
    v[c] = _mm512_shuffle_i32x4(t[c], t[8 + c], 0x88);
    v[8 + c] = _mm512_shuffle_i32x4(t[c], t[8 + c], 0xdd);
    v[4 + c] = _mm512_shuffle_i32x4(t[4 + c], t[12 + c], 0x88);
    v[12 + c] = _mm512_shuffle_i32x4(t[4 + c], t[12 + c], 0xdd);
  }
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
      std::byte* to = queries + (tile * dim_tiles + k) * kTileBytes;
      for (int i = 0; i < 16; ++i) _mm512_store_si512(to + 64 * i, v[i]);
    }
}

// ---- gathering ----

__mmask32 first_of_32(int64_t count) {
  return count >= 32 ? ~__mmask32{0} : (__mmask32{1} << (count > 0 ? count : 0)) - 1;
}

void copy_bf16(const std::byte* from, int64_t count, std::byte* to) {
  for (int64_t i = 0; i < count; i += 32) {
    const __mmask32 mask = first_of_32(count - i);
    _mm512_mask_storeu_epi16(to + 2 * i, mask, _mm512_maskz_loadu_epi16(mask, from + 2 * i));
  }
}

// 32 codes * scale
__m512i dequantise(__m256i codes, Vector scale) {
  const Vector low = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_castsi256_si128(codes)));
  const Vector high = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm256_extracti128_si256(codes, 1)));
  return reinterpret_cast<__m512i>(
      _mm512_cvtne2ps_pbh(_mm512_mul_ps(high, scale), _mm512_mul_ps(low, scale)));
}

void load_int8_row(const LatentLayout& layout, const std::byte* from, int64_t tail, std::byte* to) {
  for (int64_t i = 0; i < layout.num_codes; i += 32) {
    float scale;
    __builtin_memcpy(&scale, from + layout.scales_at + i / kLatentScaleGroup * 4, sizeof scale);
    const __m256i codes = _mm256_maskz_loadu_epi8(first_of_32(layout.num_codes - i), from + i);
    _mm512_storeu_si512(to + 2 * i, dequantise(codes, _mm512_set1_ps(scale)));
  }
  copy_bf16(from + layout.tail_at, tail, to + 2 * layout.num_codes);
}

// One cached row as bf16, zeros up to whole tiles.
void load_row(const AttentionShape& shape, const std::byte* from, std::byte* to) {
  _mm512_storeu_si512(to + 64 * (num_dim_tiles(shape) - 1), _mm512_setzero_si512());
  if (shape.format == RowFormat::bf16) {
    copy_bf16(from, shape.dim, to);
  } else {
    load_int8_row(shape.rows, from, shape.dim - shape.rows.num_codes, to);
  }
}

// Two rows to tiles of pairs. unpack works within 128 bits: of 32 dims the first tile gets 0-3, 8-11, 16-19,
// 24-27 and the second the others; natural_order() undoes that.
void pair_rows(const AttentionShape& shape, const std::byte* a, const std::byte* b, std::byte* to) {
  for (int64_t d = 0; d < shape.latent; d += 32) {
    const __m512i x = _mm512_loadu_si512(a + 2 * d), y = _mm512_loadu_si512(b + 2 * d);
    _mm512_storeu_si512(to + d / 16 * kTileBytes, _mm512_unpacklo_epi16(x, y));
    _mm512_storeu_si512(to + (d / 16 + 1) * kTileBytes, _mm512_unpackhi_epi16(x, y));
  }
}

// Rows [begin, begin + 64) of the block, zeros behind its end.
void gather(const AttentionShape& shape, const JoinArgs& j, int64_t begin, const Scratch16& scratch) {
  const int64_t size = j.now->size, stride = row_stride(shape);
  const int64_t end = smaller(begin + kStep, round_up(size, kTileKeys));
  for (int64_t i = begin; i < end; i += 2) {
    std::byte* to = scratch.rows + (i - begin) * stride;
    for (int64_t r = 0; r < 2; ++r) {
      if (i + r < size) {
        load_row(shape, j.now->rows[i + r], to + r * stride);
      } else {
        __builtin_memset(to + r * stride, 0, static_cast<size_t>(stride));
      }
    }
    pair_rows(shape, to, to + stride,
              scratch.pairs + i / kTileKeys * (shape.latent / 16) * kTileBytes + i % kTileKeys / 2 * 64);
    const auto lines = static_cast<int64_t>(shape.rows.row_bytes + 63) / 64;
    for (int64_t n = i; n < i + 2 && n < j.next->size; ++n)
      for (int64_t line = 0; line < lines; ++line) _mm_prefetch(j.next->rows[n] + 64 * line, _MM_HINT_T1);
  }
}

// ---- logits ----

void zero_products() {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
}

// logits [64, heads] of the gathered rows.
void score(const AttentionShape& shape, const std::byte* rows, const std::byte* queries, float* logits) {
  const int64_t dim_tiles = num_dim_tiles(shape), stride = row_stride(shape), row16 = 16 * stride;
  const int64_t head_tiles = shape.heads / 16, to_stride = 4 * shape.heads, to16 = 16 * shape.heads;
  stores_are_done();
  int64_t tile = 0;
  for (; tile + 2 <= head_tiles; tile += 2) {
    const std::byte* b = queries + tile * dim_tiles * kTileBytes;
    for (int64_t key = 0; key < kStep; key += 32) {
      const std::byte* a = rows + key * stride;
      zero_products();
      for (int64_t k = 0; k < dim_tiles; ++k) {
        _tile_loadd(6, b + k * kTileBytes, 64);
        _tile_loadd(7, b + (dim_tiles + k) * kTileBytes, 64);
        _tile_loadd(4, a + 64 * k, stride);
        _tile_loadd(5, a + 64 * k + row16, stride);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
      float* to = logits + key * shape.heads + 16 * tile;
      _tile_stored(0, to, to_stride);
      _tile_stored(1, to + 16, to_stride);
      _tile_stored(2, to + to16, to_stride);
      _tile_stored(3, to + to16 + 16, to_stride);
    }
  }
  if (tile < head_tiles) {
    const std::byte* b = queries + tile * dim_tiles * kTileBytes;
    zero_products();
    for (int64_t k = 0; k < dim_tiles; ++k) {
      const std::byte* a = rows + 64 * k;
      _tile_loadd(7, b + k * kTileBytes, 64);
      _tile_loadd(4, a, stride);
      _tile_loadd(5, a + row16, stride);
      _tile_loadd(6, a + 2 * row16, stride);
      _tile_dpbf16ps(0, 4, 7);
      _tile_loadd(4, a + 3 * row16, stride);
      _tile_dpbf16ps(1, 5, 7);
      _tile_dpbf16ps(2, 6, 7);
      _tile_dpbf16ps(3, 4, 7);
    }
    float* to = logits + 16 * tile;
    _tile_stored(0, to, to_stride);
    _tile_stored(1, to + to16, to_stride);
    _tile_stored(2, to + 2 * to16, to_stride);
    _tile_stored(3, to + 3 * to16, to_stride);
  }
}

// ---- softmax ----

/// Largest logit and sum of weights of 16 heads.
struct Softmax {
  Vector largest, sum;
};

struct JoinFactors {
  Vector keep, add;
};

// into = into joined with later, and the factors that the outputs take.
JoinFactors join(Softmax& into, const Softmax& later) {
  const Vector largest = _mm512_max_ps(into.largest, later.largest), shift = shift_of(largest);
  const JoinFactors f{exponential(_mm512_sub_ps(into.largest, shift)),
                      exponential(_mm512_sub_ps(later.largest, shift))};
  into = {largest, _mm512_fmadd_ps(later.sum, f.add, _mm512_mul_ps(into.sum, f.keep))};
  return f;
}

// Weights of 16 heads: 32 keys a tile. Their sum is that of the rounded ones, as the outputs are.
Softmax weigh(const AttentionShape& shape, const float* logits, int64_t size, std::byte* weights) {
  const Vector scale = _mm512_set1_ps(shape.scale);
  const auto logit = [&](int64_t key) {
    return _mm512_mul_ps(_mm512_loadu_ps(logits + key * shape.heads), scale);
  };
  Softmax s{_mm512_set1_ps(-__builtin_inff()), _mm512_setzero_ps()};
  for (int64_t key = 0; key < size; ++key) s.largest = _mm512_max_ps(s.largest, logit(key));
  const Vector shift = shift_of(s.largest);
  const auto weight = [&](int64_t key) {
    return key < size ? exponential(_mm512_sub_ps(logit(key), shift)) : _mm512_setzero_ps();
  };
  alignas(64) static constexpr uint16_t kInterleave[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                           21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                           11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i interleave = _mm512_load_si512(kInterleave), ones = _mm512_set1_epi32(0x3f803f80);
  __m512i pairs[16];  // [16 pairs of keys][16 heads][2]
  for (int64_t begin = 0; begin < size; begin += kTileKeys) {
    for (int64_t i = 0; i < 16; ++i) {
      const int64_t key = begin + 2 * i;
      const auto rounded = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(weight(key + 1), weight(key)));
      pairs[i] = _mm512_permutexvar_epi16(interleave, rounded);
      s.sum = _mm512_dpbf16_ps(s.sum, reinterpret_cast<__m512bh>(pairs[i]), reinterpret_cast<__m512bh>(ones));
    }
    transpose(pairs);
    for (int64_t i = 0; i < 16; ++i)
      _mm512_storeu_si512(weights + begin / kTileKeys * kTileBytes + 64 * i, pairs[i]);
  }
  return s;
}

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

// The 32 dims that pair_rows() spread over two tiles.
void natural_order(Vector& low, Vector& high) {
  const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i second = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
  const Vector x = low, y = high;
  low = _mm512_permutex2var_ps(x, first, y);
  high = _mm512_permutex2var_ps(x, second, y);
}

// The state's output of 16 heads x 32 dims joined with two product tiles.
void join_output(const AttentionShape& shape, const float* products, const Scratch16& scratch, bool first,
                 int64_t head, int64_t d, float* output) {
  for (int64_t r = 0; r < kMost; ++r) {
    Vector low = _mm512_loadu_ps(products + 16 * r), high = _mm512_loadu_ps(products + 256 + 16 * r);
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

// Weights * latents of the block, joined to the state: two tiles of heads x 32 dims at a time, or one x 64.
void accumulate(const AttentionShape& shape, const JoinArgs& j, const Scratch16& scratch, float* output) {
  const int64_t key_tiles = (j.now->size + kTileKeys - 1) / kTileKeys, head_tiles = shape.heads / 16;
  const int64_t next_keys = shape.latent / 16 * kTileBytes, next_heads = kKeyTiles * kTileBytes;
  float* products = scratch.products;
  stores_are_done();
  for (int64_t d = 0; d < shape.latent; d += 64) {
    int64_t tile = 0;
    for (; tile + 2 <= head_tiles; tile += 2)
      for (int64_t half = d; half < d + 64; half += 32) {
        const std::byte* a = scratch.weights + tile * next_heads;
        const std::byte* b = scratch.pairs + half / 16 * kTileBytes;
        zero_products();
        for (int64_t k = 0; k < key_tiles; ++k) {
          _tile_loadd(4, a + k * kTileBytes, 64);
          _tile_loadd(5, a + k * kTileBytes + next_heads, 64);
          _tile_loadd(6, b + k * next_keys, 64);
          _tile_loadd(7, b + k * next_keys + kTileBytes, 64);
          _tile_dpbf16ps(0, 4, 6);
          _tile_dpbf16ps(1, 4, 7);
          _tile_dpbf16ps(2, 5, 6);
          _tile_dpbf16ps(3, 5, 7);
        }
        _tile_stored(0, products, 64);
        _tile_stored(1, products + 256, 64);
        _tile_stored(2, products + 512, 64);
        _tile_stored(3, products + 768, 64);
        join_output(shape, products, scratch, j.first, 16 * tile, half, output);
        join_output(shape, products + 512, scratch, j.first, 16 * tile + 16, half, output);
      }
    if (tile == head_tiles) continue;
    const std::byte* a = scratch.weights + tile * next_heads;
    const std::byte* b = scratch.pairs + d / 16 * kTileBytes;
    zero_products();
    for (int64_t k = 0; k < key_tiles; ++k) {
      _tile_loadd(7, a + k * kTileBytes, 64);
      _tile_loadd(4, b + k * next_keys, 64);
      _tile_loadd(5, b + k * next_keys + kTileBytes, 64);
      _tile_loadd(6, b + k * next_keys + 2 * kTileBytes, 64);
      _tile_dpbf16ps(0, 7, 4);
      _tile_loadd(4, b + k * next_keys + 3 * kTileBytes, 64);
      _tile_dpbf16ps(1, 7, 5);
      _tile_dpbf16ps(2, 7, 6);
      _tile_dpbf16ps(3, 7, 4);
    }
    _tile_stored(0, products, 64);
    _tile_stored(1, products + 256, 64);
    _tile_stored(2, products + 512, 64);
    _tile_stored(3, products + 768, 64);
    join_output(shape, products, scratch, j.first, 16 * tile, d, output);
    join_output(shape, products + 512, scratch, j.first, 16 * tile, d + 32, output);
  }
}

void join_block(const AttentionShape& shape, const JoinArgs& j, std::byte* memory, float* state_memory) {
  const amx::TileScope tiles;
  const Scratch16 scratch(shape, memory);
  const AttentionState state(state_memory, shape);
  for (int64_t begin = 0; begin < j.now->size; begin += kStep) {
    gather(shape, j, begin, scratch);
    score(shape, scratch.rows, j.queries, scratch.logits + begin * shape.heads);
  }
  weigh_block(shape, j, scratch, state);
  accumulate(shape, j, scratch, state.output);
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
