// SPDX-License-Identifier: Apache-2.0
//   score(r, s) = scale[s] * (sum_h weights[r, h] * (2^23 + relu(queries[r, h] . key[s])) - biases[r])
// on tiles, h ascending; bf16 keys, with queries rounded to bf16, have no scale and no 2^23. Rows of A are
// queries, columns of B keys as they lie in the page. A step is 32 queries against four groups of keys: two
// tiles of queries that stay in registers while the chunk's groups pass by.
//
// While the tile unit works, the processor has one 512-bit floating operation a cycle, and a product of 128
// dimensions takes as many cycles as it gives vectors of dot products, two operations each (relu, multiply-
// add). There is no third, the conversion to float, because the tile starts at 2^23: integer bits of
// 2^23 + dot are that float. A tile that starts as a copy of a constant also costs less than a cleared one.
// Both operations stand between the products: while those of a group run, a quarter of the step before is
// weighed and summed, four groups at a time so that four chains of multiply-adds hide their latency. A tile
// is stored when the next one is under way: at once, the store would wait for the products.
#include "backend/cpu/index_scores.h"

#include <array>
#include <utility>

#include "backend/cpu/tiles-inl.h"  // last

#ifdef INDEXSHARE_HAS_TILES

// g++ 12 says so of _mm512_undefined_epi32() in its own intrinsics (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"

namespace indexshare::amx {

namespace {

#define INLINE inline __attribute__((always_inline))

// The compiler's own tile intrinsics take the register's number as a token, not as a constant.
template <int kTile>
INLINE void load_tile(const void* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(kTile));
}
template <int kTile>
INLINE void store_tile(void* to) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(int64_t{64}), "i"(kTile) : "memory");
}

struct Int8 {
  static constexpr float kStart = kDotBias;
  template <int kC, int kA, int kB>
  static INLINE void multiply() {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
  }
  static INLINE __m512 finished(__m512 sum, float bias, const float* scales) {
    return _mm512_mul_ps(_mm512_loadu_ps(scales), _mm512_sub_ps(sum, _mm512_set1_ps(bias)));
  }
};

struct Bf16 {
  static constexpr float kStart = 0;
  template <int kC, int kA, int kB>
  static INLINE void multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
  }
  static INLINE __m512 finished(__m512 sum, float, const float*) { return sum; }
};

/// What a tile of dot products starts with.
template <class Format>
struct alignas(64) Start {
  constexpr Start() { values.fill(Format::kStart); }
  std::array<float, 256> values;
};
template <class Format>
constexpr Start<Format> kStart;

constexpr int kStepGroups = 4, kStepQueries = 32, kQuarter = 8;  // queries of a quarter of a step

/// Starts plus dot products of a step, as f32.
struct alignas(64) Dots {
  float values[kStepGroups][kStepQueries][kKeyGroup];
};

/// What remains to be done with a step's dot products.
struct Step {
  const float* weights;              // of its queries
  const float *biases, *thresholds;  // from its first row on
  float* scores;
  uint16_t* passes;
  const std::byte* const* keys;  // [kStepGroups]
  bool first, last;              // heads of the row
};

/// kTiles: 1 KiB tiles of a key group, where the step's queries fit registers, else 0. kHeads: heads of a row
/// in a step, a power of two up to 32.
template <class Format, int kTiles, int kHeads>
class Scorer {
 public:
  Scorer(const ScoreArgs& args, const KeyChunk& chunk, const KeyChunk* next)
      : args_(args),
        chunk_(chunk),
        next_(next),
        query_bytes_(args.queries.dim * args.layout.element_bytes),
        scales_at_(args.layout.scales_at) {}

  void run() {
    const PackedQueries& p = args_.queries;
    Step done;
    Dots *current = &dots_[0], *before = &dots_[1];
    bool begun = false;
    const int64_t num_queries = p.num_rows * p.num_heads,
                  parts = (num_queries + kStepQueries - 1) / kStepQueries;
    for (int64_t query = 0; query < num_queries; query += kStepQueries) {
      const FetchPart part(args_, next_, query / kStepQueries, parts);
      const std::byte* queries = p.queries + query * query_bytes_;
      hold_queries(queries);
      for (int64_t group = 0; group < kChunkGroups; group += kStepGroups) {
        if (begun)
          step<true>(queries, group, part, *current, done, *before);
        else
          step<false>(queries, group, part, *current, done, *before);
        begun = true;
        done = step_at(query, group);
        std::swap(current, before);
      }
    }
    store_tile<1>(before->values[3][kTileRows]);
    __m512 sums[kStepGroups];
    reduce<0>(done, *before, sums);
    reduce<1>(done, *before, sums);
    reduce<2>(done, *before, sums);
    reduce<3>(done, *before, sums);
  }

 private:
  INLINE Step step_at(int64_t query, int64_t group) const {
    const PackedQueries& p = args_.queries;
    const int64_t heads = kHeads < kStepQueries ? kHeads : p.num_heads, row = query / heads;
    return {p.weights + query,
            p.biases + row,
            args_.thresholds + row,
            args_.scores + row * kChunkKeys + group * kKeyGroup,
            args_.passes + row * kChunkGroups + group,
            chunk_.group + group,
            query % heads == 0,
            (query + kStepQueries) % heads == 0};
  }

  // Tiles 4 and 5 of the first 16 queries, 6 and 7 of the others.
  INLINE void hold_queries(const std::byte* queries) {
    const std::byte* others = queries + kTileRows * query_bytes_;
    if constexpr (kTiles >= 1) load_tile<4>(queries, query_bytes_), load_tile<6>(others, query_bytes_);
    if constexpr (kTiles >= 2)
      load_tile<5>(queries + 64, query_bytes_), load_tile<7>(others + 64, query_bytes_);
  }

  template <bool kReduce>
  INLINE void step(const std::byte* queries, int64_t group, const FetchPart& part, Dots& dots,
                   const Step& done, Dots& before) {
    __m512 sums[kStepGroups];
    multiply(queries, chunk_.group[group], before.values[3][kTileRows]);
    part.fetch(group + 0);
    if constexpr (kReduce) reduce<0>(done, before, sums);
    store_tile<0>(dots.values[0]);
    multiply(queries, chunk_.group[group + 1], dots.values[0][kTileRows]);
    part.fetch(group + 1);
    if constexpr (kReduce) reduce<1>(done, before, sums);
    store_tile<0>(dots.values[1]);
    multiply(queries, chunk_.group[group + 2], dots.values[1][kTileRows]);
    part.fetch(group + 2);
    if constexpr (kReduce) reduce<2>(done, before, sums);
    store_tile<0>(dots.values[2]);
    multiply(queries, chunk_.group[group + 3], dots.values[2][kTileRows]);
    part.fetch(group + 3);
    if constexpr (kReduce) reduce<3>(done, before, sums);
    store_tile<0>(dots.values[3]);
  }

  // Products with a group in tiles 0 and 1; tile 1 of the group before goes to `before`.
  INLINE void multiply(const std::byte* queries, const std::byte* keys, void* before) {
    load_tile<0>(&kStart<Format>, 64);
    if constexpr (kTiles == 0) {
      store_tile<1>(before);
      load_tile<1>(&kStart<Format>, 64);
      for (int64_t k = 0; k < query_bytes_; k += 64) {
        load_tile<2>(keys + k * kTileRows, 64);
        load_tile<4>(queries + k, query_bytes_);
        Format::template multiply<0, 4, 2>();
        load_tile<6>(queries + kTileRows * query_bytes_ + k, query_bytes_);
        Format::template multiply<1, 6, 2>();
      }
    } else {
      load_tile<2>(keys, 64);
      Format::template multiply<0, 4, 2>();
      if constexpr (kTiles == 2) {
        load_tile<3>(keys + kTileBytes, 64);
        Format::template multiply<0, 5, 3>();
      }
      store_tile<1>(before);
      load_tile<1>(&kStart<Format>, 64);
      Format::template multiply<1, 6, 2>();
      if constexpr (kTiles == 2) Format::template multiply<1, 7, 3>();
    }
  }

  // Adds a quarter of a step's queries to their rows' sums.
  template <int kPart>
  INLINE void reduce(const Step& step, const Dots& dots, __m512 (&sums)[kStepGroups]) {
    constexpr int kRun = kHeads < kQuarter ? kHeads : kQuarter;
    const __m512 start = _mm512_set1_ps(Format::kStart);
#pragma GCC unroll 4
    for (int query = kPart * kQuarter; query < (kPart + 1) * kQuarter; query += kRun) {
      const int row = query / kHeads;
      if (query % kHeads == 0) begin_row(step, row, sums);
#pragma GCC unroll 8
      for (int h = 0; h < kRun; ++h) {
        const __m512 w = _mm512_set1_ps(step.weights[query + h]);
#pragma GCC unroll 4
        for (int g = 0; g < kStepGroups; ++g)  // max gives its second operand where one is NaN
          sums[g] =
              _mm512_fmadd_ps(w, _mm512_max_ps(start, _mm512_load_ps(dots.values[g][query + h])), sums[g]);
      }
      if ((query + kRun) % kHeads == 0) end_row(step, row, sums);
    }
  }

  INLINE void begin_row(const Step& step, int row, __m512 (&sums)[kStepGroups]) {
#pragma GCC unroll 4
    for (int g = 0; g < kStepGroups; ++g)
      sums[g] = kHeads < kStepQueries || step.first
                    ? _mm512_setzero_ps()
                    : _mm512_loadu_ps(step.scores + row * kChunkKeys + g * kKeyGroup);
  }

  INLINE void end_row(const Step& step, int row, const __m512 (&sums)[kStepGroups]) {
    const bool last = kHeads < kStepQueries || step.last;
    const __m512 threshold = _mm512_set1_ps(step.thresholds[row]);
#pragma GCC unroll 4
    for (int g = 0; g < kStepGroups; ++g) {
      __m512 score = sums[g];
      if (last) {
        score = Format::finished(score, step.biases[row],
                                 reinterpret_cast<const float*>(step.keys[g] + scales_at_));
        step.passes[row * kChunkGroups + g] = _mm512_cmp_ps_mask(score, threshold, _CMP_NLE_UQ);
      }
      _mm512_storeu_ps(step.scores + row * kChunkKeys + g * kKeyGroup, score);
    }
  }

  const ScoreArgs& args_;
  const KeyChunk& chunk_;
  const KeyChunk* next_;
  const int64_t query_bytes_;
  const size_t scales_at_;
  Dots dots_[2];
};

template <class Format, int kTiles>
void score(const ScoreArgs& args, const KeyChunk& chunk, const KeyChunk* next) {
  switch (args.queries.num_heads) {
    case 1:
      return Scorer<Format, kTiles, 1>(args, chunk, next).run();
    case 2:
      return Scorer<Format, kTiles, 2>(args, chunk, next).run();
    case 4:
      return Scorer<Format, kTiles, 4>(args, chunk, next).run();
    case 8:
      return Scorer<Format, kTiles, 8>(args, chunk, next).run();
    case 16:
      return Scorer<Format, kTiles, 16>(args, chunk, next).run();
    default:  // a multiple of 32
      return Scorer<Format, kTiles, 32>(args, chunk, next).run();
  }
}

}  // namespace

void score_chunk(const ScoreArgs& args, const KeyChunk& chunk, const KeyChunk* next) {
  const TileScope tiles;
  if (args.layout.format == RowFormat::bf16) return score<Bf16, 0>(args, chunk, next);
  switch (args.queries.dim) {
    case 64:
      return score<Int8, 1>(args, chunk, next);
    case 128:
      return score<Int8, 2>(args, chunk, next);
    default:
      return score<Int8, 0>(args, chunk, next);
  }
}

}  // namespace indexshare::amx

#pragma GCC pop_options
#endif
