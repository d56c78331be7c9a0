// SPDX-License-Identifier: Apache-2.0
// Attention over a block of cached rows with bf16 tiles: queries, dequantised rows and softmax weights are
// rounded to bf16, products and sums are f32. (Tiles take bf16 below 2^-126 for zero.)
//   logits  [keys x heads] = rows [keys x dims] * queries   [dims x heads]      score_tiles-inl.h
//   weights [heads x keys] = softmax of the block                               softmax_tiles-inl.h
//   output  [heads x dims] = weights [heads x keys] * latents [keys x dims]     output_tiles-inl.h
// Tiles are gathered a few steps before they are multiplied, into a ring: what is written fits the first
// cache, as writing beyond it costs most. Each row is so read twice: 16 keys x 32 dims as they are, the left
// factor of logits, and 32 keys x 32 dims with neighbouring keys side by side (tiles-inl.h), the right factor
// of the output. A softmax maximum is known before any weight is made: nothing is rescaled within a block.
#include "backend/cpu/sparse_attention_kernel.h"
#include "base/check.h"

// Last: tiles-inl.h lets the compiler use the instructions of these files.
#include "backend/cpu/tiles-inl.h"

#include "backend/cpu/output_tiles-inl.h"
#include "backend/cpu/score_tiles-inl.h"
#include "backend/cpu/softmax_tiles-inl.h"

#if defined(INDEXSHARE_HAS_TILES)

namespace indexshare {

namespace {

using namespace amx;

size_t scratch_bytes(const AttentionShape& shape) {
  return static_cast<size_t>(Scratch16(shape, nullptr).used);
}

// [heads/32][dims/32][2], or [dims/32], tiles of 16 pairs of dims x 16 heads x 2 bf16: in the order they are
// read in.
size_t query_bytes(const AttentionShape& shape) {
  return static_cast<size_t>(num_head_tiles(shape) * num_dim_tiles(shape) * kTileBytes);
}

// ---- queries ----

void arrange_queries(const AttentionShape& shape, const SparseAttentionArgs& a, int64_t row,
                     std::byte* queries) {
  const int64_t dim_tiles = num_dim_tiles(shape), head_tiles = num_head_tiles(shape);
  const int64_t group = head_tiles == 1 ? 1 : 2;
  const float* latents = a.query_latent + row * a.num_heads * a.latent_dim;
  const float* next = latents;  // to fetch
  __m512i v[16];
  for (int64_t tile = 0; tile < head_tiles; ++tile)
    for (int64_t k = 0; k < dim_tiles; ++k) {
      // Heads lie far apart: the next 16 are fetched meanwhile, line by line.
      const float* until = latents + ((tile + 1) * 16 + (k + 1) * 16 / dim_tiles) * a.latent_dim;
      const float* end = latents + a.num_heads * a.latent_dim;
      for (until = until < end ? until : end; next < until; next += 16) _mm_prefetch(next, _MM_HINT_T0);
      for (int64_t i = 0; i < 16; ++i) {
        const int64_t h = 16 * tile + i;
        const float* latent = latents + h * a.latent_dim;
        const auto dims = [&](int64_t d) {  // 16 of them, zeros beyond the last
          const auto in_latent = static_cast<__mmask16>(first_of_32(a.latent_dim - d));
          const auto in_rope = static_cast<__mmask16>(first_of_32(shape.dim - d) & ~in_latent);
          const Vector part = _mm512_maskz_loadu_ps(in_latent, latent + d);
          if (in_rope == 0) return part;
          const float* rope = a.query_rope + row * a.rope_row_stride + h * a.rope_head_stride;
          return _mm512_mask_loadu_ps(part, in_rope, rope + (d - a.latent_dim));
        };
        v[i] = h < a.num_heads
                   ? reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(dims(32 * k + 16), dims(32 * k)))
                   : _mm512_setzero_si512();
      }
      transpose(v);
      const int64_t first = tile / group * group;
      std::byte* to = queries + (first * dim_tiles + k * group + tile - first) * kTileBytes;
      for (int i = 0; i < 16; ++i) _mm512_store_si512(to + 64 * i, v[i]);
    }
}

// ---- softmax ----

// A state's outputs are tiles of sums, [latent / 32][heads / 16][2][16 heads][16]. Calls fn(head, at) for
// each line, `at` in floats.
template <class Fn>
void for_each_output_line(const AttentionShape& shape, const Fn& fn) {
  int64_t at = 0;
  for (int64_t d = 0; d < shape.latent; d += 32)
    for (int64_t h = 0; h < shape.heads; h += 16)
      for (int half = 0; half < 2; ++half)
        for (int64_t head = h; head < h + 16; ++head, at += 16) fn(head, at);
}

// Sums of the heads that got a new reference.
void rescale(const AttentionShape& shape, const float* keep, float* output) {
  for_each_output_line(shape, [&](int64_t head, int64_t at) {
    if (keep[head] == 1.0f) return;
    _mm512_storeu_ps(output + at, _mm512_mul_ps(_mm512_loadu_ps(output + at), _mm512_set1_ps(keep[head])));
  });
}

// All heads' weights; the state's references and sums, and its outputs where those references change.
void weigh_block(const AttentionShape& shape, const JoinArgs& j, const Scratch16& scratch,
                 const AttentionState& state) {
  __mmask16 changed = 0;
  for (int64_t h = 0; h < shape.heads; h += 16) {
    Softmax s{_mm512_loadu_ps(state.reference + h), _mm512_loadu_ps(state.sum + h)};
    const Vector keep = weigh(shape, scratch.logits + h * kKeyBlock, j.now->size, j.first,
                              scratch.weights + h / 16 * kKeyTiles * kTileBytes, s);
    changed |= _mm512_cmp_ps_mask(keep, _mm512_set1_ps(1.0f), _CMP_NEQ_UQ);
    _mm512_storeu_ps(scratch.keep + h, keep);
    _mm512_storeu_ps(state.reference + h, s.reference);
    _mm512_storeu_ps(state.sum + h, s.sum);
  }
  if (changed != 0) rescale(shape, scratch.keep, state.output);
}

template <class Rows>
void join_rows(const AttentionShape& shape, const JoinArgs& j, const Scratch16& scratch,
               const AttentionState& state) {
  Ahead<Rows> ahead(shape, *j.next);
  const bool few = shape.heads == 16;
  few ? score_few_heads<Rows>(shape, j, scratch, ahead) : score_many_heads<Rows>(shape, j, scratch, ahead);
  stores_are_done();
  weigh_block(shape, j, scratch, state);
  few ? accumulate<Rows, true>(shape, j, scratch, ahead, state.output)
      : accumulate<Rows, false>(shape, j, scratch, ahead, state.output);
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
    Softmax all{_mm512_loadu_ps(into.reference + h), _mm512_loadu_ps(into.sum + h)};
    const JoinFactors f = join(all, {_mm512_loadu_ps(later.reference + h), _mm512_loadu_ps(later.sum + h)});
    _mm512_storeu_ps(into.reference + h, all.reference);
    _mm512_storeu_ps(into.sum + h, all.sum);
    _mm512_storeu_ps(later.reference + h, f.keep);  // spent: room for the two factors
    _mm512_storeu_ps(later.sum + h, f.add);
  }
  for_each_output_line(shape, [&](int64_t head, int64_t at) {
    const Vector keep = _mm512_set1_ps(later.reference[head]), add = _mm512_set1_ps(later.sum[head]);
    const Vector kept = _mm512_mul_ps(_mm512_loadu_ps(into.output + at), keep);
    _mm512_storeu_ps(into.output + at, _mm512_fmadd_ps(_mm512_loadu_ps(later.output + at), add, kept));
  });
}

void finish(const AttentionShape& shape, float* memory, float* output) {
  const AttentionState state(memory, shape);
  for (int64_t h = 0; h < shape.num_heads; ++h, output += shape.latent_dim) {
    const Vector share = _mm512_set1_ps(1 / state.sum[h]);
    const float* from = state.output + h / 16 * 2 * kTileFloats + h % 16 * 16;
    for (int64_t d = 0; d < shape.latent_dim; d += 32, from += shape.heads / 16 * 2 * kTileFloats) {
      Vector low = _mm512_loadu_ps(from), high = _mm512_loadu_ps(from + kTileFloats);
      natural_order(low, high);
      const __mmask32 there = first_of_32(shape.latent_dim - d);
      _mm512_mask_storeu_ps(output + d, static_cast<__mmask16>(there), _mm512_mul_ps(low, share));
      if (there >> 16)
        _mm512_mask_storeu_ps(output + d + 16, static_cast<__mmask16>(there >> 16),
                              _mm512_mul_ps(high, share));
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
  kernel.finish = finish;
}

}  // namespace indexshare

#else

namespace indexshare {
void use_attention_tiles(AttentionKernel&) {
  fail(ErrorCode::internal, "attention tiles: not in this build");
}
}  // namespace indexshare

#endif
