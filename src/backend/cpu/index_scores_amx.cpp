// SPDX-License-Identifier: Apache-2.0
//   score(r, s) = scale[s] * sum_h weights[r, h] * relu(queries[r, h] . key[s]),  h ascending
// on tiles: int8 keys, or bf16 keys (scale 1) with queries rounded to bf16. Rows of A are queries, columns of
// B keys as they lie in the page. A step is up to 32 queries (whole rows of heads, or 32 heads of one row
// that has more) against 32 keys: four tiles of dot products. The vector work of a step is issued behind the
// tile products of the next one, so that both units are busy.
#include "backend/cpu/index_scores.h"

#include "backend/cpu/tiles-inl.h"  // last

// g++ 12 says so of _mm512_undefined_epi32() in its own intrinsics (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

#ifdef INDEXSHARE_HAS_TILES

namespace indexshare::amx {

namespace {

constexpr int64_t kStepQueries = 2 * kTileRows;
constexpr int64_t kStepGroups = 2;

struct Int8 {
  static constexpr int64_t kTileDims = 64;
  // relu of 16 dot products; NaN stays
  static __m512 relu(const void* dots) {
    return _mm512_cvtepi32_ps(_mm512_max_epi32(_mm512_load_si512(dots), _mm512_setzero_si512()));
  }
  static __m512 scales(const ScoreArgs& args, const std::byte* group) {
    return _mm512_loadu_ps(args.layout.scales(group));
  }
};
struct Bf16 {
  static constexpr int64_t kTileDims = 32;
  static __m512 relu(const void* dots) { return _mm512_max_ps(_mm512_setzero_ps(), _mm512_load_ps(dots)); }
  static __m512 scales(const ScoreArgs&, const std::byte*) { return _mm512_set1_ps(1.0f); }
};

struct Step {
  int64_t row, num_rows;    // rows of the block
  int64_t head, num_heads;  // all heads, or some of one row's
  int64_t group;            // of the chunk: this one and the next
};

/// Dot products of a step: [2 groups][32 queries][16 keys] i32 or f32.
struct alignas(64) Dots {
  int32_t values[kStepGroups][kStepQueries][kKeyGroup];
};

template <class Format>
void multiply(const ScoreArgs& args, const KeyChunk& chunk, const Step& step, Dots& dots) {
  const PackedQueries& p = args.queries;
  const int64_t row_bytes = p.dim * 64 / Format::kTileDims;
  const std::byte* a0 = p.queries + (step.row * p.num_heads + step.head) * row_bytes;
  const std::byte* a1 = a0 + kTileRows * row_bytes;
  const std::byte *b0 = chunk.group[step.group], *b1 = chunk.group[step.group + 1];
  const bool both = step.num_rows * step.num_heads > kTileRows;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t k = 0; k < row_bytes; k += 64) {
    _tile_loadd(6, b0 + k * kTileRows, 64);
    _tile_loadd(7, b1 + k * kTileRows, 64);
    _tile_loadd(4, a0 + k, row_bytes);
    if constexpr (Format::kTileDims == 64) {
      _tile_dpbssd(0, 4, 6);
      _tile_dpbssd(2, 4, 7);
    } else {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(2, 4, 7);
    }
    if (!both) continue;
    _tile_loadd(5, a1 + k, row_bytes);
    if constexpr (Format::kTileDims == 64) {
      _tile_dpbssd(1, 5, 6);
      _tile_dpbssd(3, 5, 7);
    } else {
      _tile_dpbf16ps(1, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, dots.values[0], 64);
  _tile_stored(2, dots.values[1], 64);
  if (!both) return;
  _tile_stored(1, dots.values[0][kTileRows], 64);
  _tile_stored(3, dots.values[1][kTileRows], 64);
}

// The heads of one row: kHeads of them, or num_heads where kHeads == 0.
template <class Format, int kHeads>
void add_heads(const float* weights, int64_t num_heads, const Dots& dots, int64_t first, __m512& score0,
               __m512& score1) {
  const int64_t count = kHeads ? kHeads : num_heads;
  for (int64_t h = 0; h < count; ++h) {
    const __m512 w = _mm512_set1_ps(weights[h]);
    score0 = _mm512_fmadd_ps(w, Format::relu(dots.values[0][first + h]), score0);
    score1 = _mm512_fmadd_ps(w, Format::relu(dots.values[1][first + h]), score1);
  }
}

template <class Format, int kHeads>
void reduce(const ScoreArgs& args, const KeyChunk& chunk, const Step& step, const Dots& dots) {
  const PackedQueries& p = args.queries;
  const __m512 scale0 = Format::scales(args, chunk.group[step.group]),
               scale1 = Format::scales(args, chunk.group[step.group + 1]);
  const bool first = step.head == 0, last = step.head + step.num_heads == p.num_heads;
  for (int64_t r = 0; r < step.num_rows; ++r) {
    float* scores = args.scores + (step.row + r) * kChunkKeys + step.group * kKeyGroup;
    __m512 score0 = first ? _mm512_setzero_ps() : _mm512_loadu_ps(scores);
    __m512 score1 = first ? _mm512_setzero_ps() : _mm512_loadu_ps(scores + kKeyGroup);
    add_heads<Format, kHeads>(p.weights + (step.row + r) * p.num_heads + step.head, step.num_heads, dots,
                              r * step.num_heads, score0, score1);
    _mm512_storeu_ps(scores, last ? _mm512_mul_ps(scale0, score0) : score0);
    _mm512_storeu_ps(scores + kKeyGroup, last ? _mm512_mul_ps(scale1, score1) : score1);
  }
}

template <class Format>
void reduce(const ScoreArgs& args, const KeyChunk& chunk, const Step& step, const Dots& dots) {
  switch (step.num_heads) {  // the usual numbers, unrolled
    case 2:
      return reduce<Format, 2>(args, chunk, step, dots);
    case 8:
      return reduce<Format, 8>(args, chunk, step, dots);
    case 32:
      return reduce<Format, 32>(args, chunk, step, dots);
    default:
      return reduce<Format, 0>(args, chunk, step, dots);
  }
}

// The next step of a chunk: groups, then heads, then rows; num_rows == 0 after the last one.
Step next_step(const PackedQueries& p, Step step) {
  if (step.num_rows > 0) {
    step.group += kStepGroups;
    if (step.group < kChunkGroups) return step;
    step.group = 0;
    step.head += step.num_heads;
    if (step.head == p.num_heads) step.head = 0, step.row += step.num_rows;
  }
  const int64_t rows_a_step = p.num_heads < kStepQueries ? kStepQueries / p.num_heads : 1;
  const int64_t rows_left = p.num_rows - step.row, heads_left = p.num_heads - step.head;
  step.num_rows = rows_left < rows_a_step ? rows_left : rows_a_step;
  step.num_heads = heads_left < kStepQueries ? heads_left : kStepQueries;
  return step;
}

template <class Format>
void score(const ScoreArgs& args, const KeyChunk& chunk) {
  Dots dots[2];
  int current = 0;
  Step done{};
  for (Step step = next_step(args.queries, {}); step.num_rows > 0; step = next_step(args.queries, step)) {
    multiply<Format>(args, chunk, step, dots[current]);
    current ^= 1;
    if (done.num_rows > 0) reduce<Format>(args, chunk, done, dots[current]);
    done = step;
  }
  reduce<Format>(args, chunk, done, dots[current ^ 1]);
}

}  // namespace

void score_chunk(const ScoreArgs& args, const KeyChunk& chunk) {
  const TileScope tiles;
  args.layout.format == RowFormat::int8 ? score<Int8>(args, chunk) : score<Bf16>(args, chunk);
}

}  // namespace indexshare::amx

#pragma GCC pop_options
#endif
