// SPDX-License-Identifier: Apache-2.0
// The best candidates of one query row in a stream of scores at ascending positions. A full buffer is cut to
// the topk best; a cut's lowest score is the threshold that later ones must exceed (equal ones come later in
// position, hence lose). A threshold guessed from a sample of the stream spares most candidates and cuts; if
// fewer than topk pass it, it was too high and the stream has to be read again without it.
#pragma once

#include <array>
#include <cstdint>
#include <limits>

#include "backend/cpu/index_keys.h"
#include "backend/cpu/tiles.h"

namespace indexshare {

struct Candidates {
  static constexpr int64_t kSlack = kChunkKeys + 32;  // a chunk is taken without asking; stores reach beyond

  // More would make cuts rarer, but thresholds lag behind, and the buffers of a row block leave the second
  // cache.
  static int64_t capacity_for(int64_t topk) { return 2 * topk + 1024 + kSlack; }

  float* scores;       // [capacity]
  int32_t* positions;  // [capacity], ascending
  int32_t* order[3];   // [capacity] working memory of cuts, may be shared by many
  int64_t capacity, topk;
  int64_t count = 0;
  // Only scores not below or equal enter: NaN, before the first cut, lets everything in, and a NaN always
  // does.
  float threshold = std::numeric_limits<float>::quiet_NaN();
  bool has_nan = false;  // known for sure after a cut

  void clear() {
    count = 0;
    threshold = std::numeric_limits<float>::quiet_NaN();
    has_nan = false;
  }
  bool full() const { return count > capacity - kSlack; }
};

/// A bit for each key of a chunk.
using ChunkBits = std::array<uint64_t, kChunkKeys / 64>;

/// Adds the keys of a chunk that have a bit; may read one key and store seven candidates in excess.
using AppendPassing = void (*)(const float* scores, const int32_t* positions, const ChunkBits& passing,
                               Candidates& candidates);
#ifdef INDEXSHARE_X86_KERNELS
namespace amx {
void append_passing(const float* scores, const int32_t* positions, const ChunkBits& passing, Candidates& c);
}
#endif

struct TakeArgs {
  const float* scores;     // [num_rows][kChunkKeys]
  const uint16_t* passes;  // [num_rows][kChunkGroups] which exceed `thresholds`, ScoreArgs::passes
  float* thresholds;       // [num_rows] those of the candidates, which cuts raise
  const KeyChunk* chunk;
  int64_t num_rows, first_t;     // positions of the rows: first_t, first_t + 1, ...
  const FixedPattern* left_out;  // positions Fix(t) does not compete (FILL); nullptr = all do
  Candidates* candidates;        // [num_rows]
  AppendPassing append;
};

struct CandidateKernels {
  AppendPassing append;
  /// What is visible of a chunk, cutting where a buffer gets full.
  void (*take)(const TakeArgs& args);
  /// Keeps the topk best (all where there are fewer); none of a row with a NaN.
  void (*cut)(Candidates& candidates);
  /// Forgets the candidates, all those of a sample, but for a threshold that `rank` of them pass, or more
  /// where scores are equal.
  void (*guess)(Candidates& candidates, int64_t rank);
  /// Adds what a later part of the stream kept; both are cut.
  void (*merge)(Candidates& into, const Candidates& later);
};
/// Those of an instruction set (KernelPath::table_index).
CandidateKernels candidate_kernels(size_t table_index);

}  // namespace indexshare
