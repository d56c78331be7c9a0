// SPDX-License-Identifier: Apache-2.0
//   score(r, s) = scale[s] * sum_h weights[r, h] * relu(queries[r, h] . key[s]),  h ascending
// on tiles: int8 keys, or bf16 keys (scale 1) with queries rounded to bf16. Rows of A are queries, columns of
// B keys as they lie in the page. A step is 16 queries (whole rows of heads, or 16 heads of one row that has
// more) against the chunk's four groups, whose dot products gather in tiles 0 to 3.
//
// While the tile unit works, the processor has one 512-bit vector operation a cycle, and looks little beyond
// a tile instruction. So the three operations a dot product costs (relu, to float, multiply-add) are what
// bounds a step of 128 dimensions (192 cycles against 128 of products), and they stand between the products:
// while those of two groups run, the same two groups of the step before are weighed and summed. A tile is
// stored two groups after its products began: earlier, the store would wait for them and the unit for the
// store.
#include "backend/cpu/index_scores.h"

#include "backend/cpu/tiles-inl.h"  // last

#ifdef INDEXSHARE_HAS_TILES

// g++ 12 says so of _mm512_undefined_epi32() in its own intrinsics (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"

namespace indexshare::amx {

namespace {

#define INLINE inline __attribute__((always_inline))

// The compiler's own tile intrinsics take the register's number as a token, not as a constant.
template <int kTile>
INLINE void clear_tile() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}
template <int kTile>
INLINE void load_tile(const std::byte* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(kTile));
}
template <int kTile>
INLINE void store_tile(void* to) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(int64_t{64}), "i"(kTile) : "memory");
}

struct Int8 {
  template <int kC, int kA, int kB>
  static INLINE void multiply() {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
  }
  static INLINE __m512 relu(const void* dots) {
    return _mm512_cvtepi32_ps(_mm512_max_epi32(_mm512_load_si512(dots), _mm512_setzero_si512()));
  }
  static INLINE __m512 scaled(__m512 sums, const float* scales) {
    return _mm512_mul_ps(_mm512_loadu_ps(scales), sums);
  }
};

struct Bf16 {
  template <int kC, int kA, int kB>
  static INLINE void multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
  }
  static INLINE __m512 relu(const void* dots) {  // NaN stays
    return _mm512_max_ps(_mm512_setzero_ps(), _mm512_load_ps(static_cast<const float*>(dots)));
  }
  static INLINE __m512 scaled(__m512 sums, const float*) { return sums; }
};

/// Dot products of a step: [4 groups][16 queries][16 keys] i32 or f32.
struct alignas(64) Dots {
  int32_t values[kChunkGroups][kTileRows][kKeyGroup];
};

/// What remains to be done with a step's dot products.
struct Step {
  const float* weights;  // of its queries
  float* scores;         // of its first row
  int64_t num_rows, num_heads;
  bool first, last;  // heads of the row
};

/// kTiles: 1 KiB tiles of a key group, where the step's queries fit registers, else 0. kHeads: heads of a row
/// in every step where they divide a step evenly, else 0.
template <class Format, int kTiles, int kHeads>
class Scorer {
 public:
  Scorer(const ScoreArgs& args, const KeyChunk& chunk)
      : query_bytes_(args.queries.dim * args.layout.element_bytes) {
    for (int64_t g = 0; g < kChunkGroups; ++g) {
      keys_[g] = chunk.group[g];
      scales_[g] = args.layout.scales(chunk.group[g]);
    }
  }

  void run(const PackedQueries& p, float* scores) {
    const int64_t heads = p.num_heads < kTileRows ? p.num_heads : kTileRows, rows = kTileRows / heads;
    Step done{p.weights, scores, 0, 0, true, true};
    for (int64_t row = 0; row < p.num_rows; row += rows)
      for (int64_t head = 0; head < p.num_heads; head += heads) {
        const int64_t query = row * p.num_heads + head;
        multiply(p.queries + query * query_bytes_, done);
        done = {p.weights + query,
                scores + row * kChunkKeys,
                rows < p.num_rows - row ? rows : p.num_rows - row,
                heads < p.num_heads - head ? heads : p.num_heads - head,
                head == 0,
                head + heads >= p.num_heads};
      }
    store_tile<2>(dots_.values[2]);
    store_tile<3>(dots_.values[3]);
    reduce<0>(done);
    reduce<2>(done);
  }

 private:
  INLINE void multiply(const std::byte* queries, const Step& done) {
    if constexpr (kTiles >= 1) load_tile<4>(queries, query_bytes_);
    if constexpr (kTiles >= 2) load_tile<5>(queries + 64, query_bytes_);
    multiply_group<0>(queries);
    store_tile<2>(dots_.values[2]);
    multiply_group<1>(queries);
    store_tile<3>(dots_.values[3]);
    reduce<0>(done);
    multiply_group<2>(queries);
    store_tile<0>(dots_.values[0]);
    multiply_group<3>(queries);
    store_tile<1>(dots_.values[1]);
    reduce<2>(done);
  }

  template <int kGroup>
  INLINE void multiply_group(const std::byte* queries) {
    const std::byte* keys = keys_[kGroup];
    clear_tile<kGroup>();
    if constexpr (kTiles == 0) {
      for (int64_t k = 0; k < query_bytes_; k += 64) {
        load_tile<4>(queries + k, query_bytes_);
        load_tile<6>(keys + k * kTileRows, 64);
        Format::template multiply<kGroup, 4, 6>();
      }
    }
    if constexpr (kTiles >= 1) {
      load_tile<6>(keys, 64);
      Format::template multiply<kGroup, 4, 6>();
    }
    if constexpr (kTiles >= 2) {
      load_tile<7>(keys + kTileBytes, 64);
      Format::template multiply<kGroup, 5, 7>();
    }
  }

  // Adds a step's heads to the scores of two groups.
  template <int kGroup>
  INLINE void reduce(const Step& step) {
    const int64_t heads = kHeads ? kHeads : step.num_heads;
    const int64_t rows = kHeads ? kTileRows / kHeads : step.num_rows;
    float* scores = step.scores + kGroup * kKeyGroup;
#pragma GCC unroll 16
    for (int64_t r = 0; r < rows; ++r) {
      __m512 sum0 = _mm512_setzero_ps(), sum1 = sum0;
      if (!step.first) sum0 = _mm512_loadu_ps(scores), sum1 = _mm512_loadu_ps(scores + kKeyGroup);
#pragma GCC unroll 16
      for (int64_t h = 0; h < heads; ++h) {
        const __m512 w = _mm512_set1_ps(step.weights[r * heads + h]);
        sum0 = _mm512_fmadd_ps(w, Format::relu(dots_.values[kGroup][r * heads + h]), sum0);
        sum1 = _mm512_fmadd_ps(w, Format::relu(dots_.values[kGroup + 1][r * heads + h]), sum1);
      }
      if (step.last)
        sum0 = Format::scaled(sum0, scales_[kGroup]), sum1 = Format::scaled(sum1, scales_[kGroup + 1]);
      _mm512_storeu_ps(scores, sum0);
      _mm512_storeu_ps(scores + kKeyGroup, sum1);
      scores += kChunkKeys;
    }
  }

  const int64_t query_bytes_;
  const std::byte* keys_[kChunkGroups];
  const float* scales_[kChunkGroups];
  Dots dots_;
};

template <class Format, int kTiles>
void score(const ScoreArgs& args, const KeyChunk& chunk) {
  switch (args.queries.num_heads) {
    case 2:
      return Scorer<Format, kTiles, 2>(args, chunk).run(args.queries, args.scores);
    case 8:
      return Scorer<Format, kTiles, 8>(args, chunk).run(args.queries, args.scores);
    case 16:
    case 32:
    case 64:
      return Scorer<Format, kTiles, 16>(args, chunk).run(args.queries, args.scores);
    default:
      return Scorer<Format, kTiles, 0>(args, chunk).run(args.queries, args.scores);
  }
}

}  // namespace

void score_chunk(const ScoreArgs& args, const KeyChunk& chunk) {
  const TileScope tiles;
  if (args.layout.format == RowFormat::bf16) return score<Bf16, 0>(args, chunk);
  switch (args.queries.dim) {
    case 64:
      return score<Int8, 1>(args, chunk);
    case 128:
      return score<Int8, 2>(args, chunk);
    default:
      return score<Int8, 0>(args, chunk);
  }
}

}  // namespace indexshare::amx

#pragma GCC pop_options
#endif
