// SPDX-License-Identifier: Apache-2.0
// Scores of a block of query rows against a chunk of keys, and which of them pass their row's threshold, one
// kernel for each arithmetic:
//   index_scores.cpp        f32, any key format (what a path without better does; the only one for f32 keys)
//   index_scores_vnni.cpp   int8 keys: integer dot products
//   index_scores_amx.cpp    int8 and bf16 keys: tiles
// On int8 keys all of them give the same bits (backend.h). Queries are laid out first, by pack_queries().
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/backend.h"
#include "backend/cpu/index_keys.h"
#include "backend/cpu/tiles.h"

namespace indexshare {

/// What a kernel multiplies keys with.
enum class QueryForm {
  floats,  // f32; the codes of int8 queries as f32, whose sums of products are exact
  codes,   // int8
  bf16
};

/// Queries of a row block, laid out; head h of row r is number r * num_heads + h.
struct PackedQueries {
  // Queries and rows that tiles touch beyond the last ones.
  static constexpr int64_t kSlack = 32;

  int64_t num_rows;
  int64_t num_heads;   // packed_heads(): of the model, and more of weight 0
  int64_t dim;         // elements of a query, zeros padding codes and bf16 as those of keys
  std::byte* queries;  // [num_rows * num_heads + kSlack][dim]
  float* weights;      // [num_rows * num_heads + kSlack] head weights, times the query's scale for int8 keys
  float* biases;       // [num_rows + kSlack] what kDotBias adds to a row's sum of heads; int8 keys
  int32_t* sums;       // [num_rows * num_heads] of a query's codes, where form == codes
};

struct ScoreArgs {
  PackedQueries queries;
  IndexKeyLayout layout;
  const float* thresholds;  // [num_rows + kSlack]
  float* wide_keys;         // [2][dim][16] working memory of the f32 kernel
  float* scores;            // [num_rows + kSlack][kChunkKeys] out
  // [num_rows + kSlack][kChunkGroups] out: a bit for each key of a group, set unless score <= threshold,
  // hence for NaN and where the threshold is NaN.
  uint16_t* passes;
};

/// Part `part` of `parts` of each group of a chunk, to be fetched: kernels ask for the next chunk while they
/// work on one, a little at a time, since what asks for much at once waits.
struct FetchPart {
  FetchPart(const ScoreArgs& args, const KeyChunk* chunk, int64_t part, int64_t parts)
      : chunk_(chunk), begin_(line(args, part, parts)), end_(chunk ? line(args, part + 1, parts) : begin_) {}
  void fetch(int64_t group) const {
    for (size_t byte = begin_; byte < end_; byte += 64) __builtin_prefetch(chunk_->group[group] + byte);
  }

 private:
  static size_t line(const ScoreArgs& args, int64_t part, int64_t parts) {
    const auto lines = static_cast<int64_t>((args.layout.group_bytes + 63) / 64);
    return static_cast<size_t>(lines * part / parts) * 64;
  }
  const KeyChunk* chunk_;  // nullptr = nothing
  size_t begin_, end_;
};

using ScoreChunk = void (*)(const ScoreArgs& args, const KeyChunk& keys, const KeyChunk* next);

ScoreChunk f32_score_chunk(size_t table_index);  // of an instruction set, KernelPath::table_index
#ifdef INDEXSHARE_X86_KERNELS
namespace vnni {
void score_chunk(const ScoreArgs& args, const KeyChunk& keys, const KeyChunk* next);
}
namespace amx {
void score_chunk(const ScoreArgs& args, const KeyChunk& keys, const KeyChunk* next);
}
#endif

}  // namespace indexshare
