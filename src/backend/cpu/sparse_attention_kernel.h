// SPDX-License-Identifier: Apache-2.0
// What sparse_attention.cpp, which cuts lists into blocks and shares them out, asks of a kernel, which
// attends over one block. sparse_attention_f32.cpp has one for every format and instruction set,
// sparse_attention_amx.cpp one for bf16 and int8 rows where the machine has tiles.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/backend.h"
#include "backend/cpu/latents.h"

namespace indexshare {

/// Cached rows attended at a time: their latents, 256 KiB in bf16 at GLM-5.2's shape, stay in the second
/// cache, and joining a block's state to the row's costs a tenth of its products.
constexpr int64_t kKeyBlock = 256;

/// The op's sizes; padded ones are rounded up to whole register tiles.
struct AttentionShape {
  explicit AttentionShape(const SparseAttentionArgs& args)
      : num_heads(args.num_heads),
        latent_dim(args.latent_dim),
        rope_dim(args.rope_dim),
        dim(args.latent_dim + args.rope_dim),
        heads((args.num_heads + 15) / 16 * 16),
        latent((args.latent_dim + 63) / 64 * 64),
        scale(args.scale),
        format(args.cache.format),
        rows(args.cache) {}

  int64_t state_floats() const { return 2 * heads + heads * latent; }

  int64_t num_heads, latent_dim, rope_dim, dim;
  int64_t heads, latent;  // padded
  float scale;
  RowFormat format;
  LatentLayout rows;
};

/// Unnormalised softmax over part of a list.
struct AttentionState {
  AttentionState(float* memory, const AttentionShape& shape)
      : reference(memory), sum(memory + shape.heads), output(memory + 2 * shape.heads) {}
  float* reference;  // [heads] near the largest logit: what weights, exp(logit - reference), are relative to
  float* sum;        // [heads] of weights
  float* output;     // [heads, latent], or a layout of the kernel's own: sum of weights * latents
};

/// Where some elements of a row's list are cached.
struct KeyBlock {
  const std::byte* rows[kKeyBlock];
  int64_t size = 0;
};

struct JoinArgs {
  const KeyBlock* now;
  const KeyBlock* next;      // to fetch ahead, where the kernel gains by it; may be empty
  const std::byte* queries;  // as arrange_queries() left them
  bool first;                // nothing is in the state yet
};

struct AttentionKernel {
  size_t (*scratch_bytes)(const AttentionShape&);
  size_t (*query_bytes)(const AttentionShape&);
  /// The queries of one row in the kernel's own layout.
  void (*arrange_queries)(const AttentionShape&, const SparseAttentionArgs&, int64_t row, std::byte* queries);
  /// state = state joined with a block of later keys
  void (*join_block)(const AttentionShape&, const JoinArgs&, std::byte* scratch, float* state);
  /// into = into joined with the state of later keys, which is spent.
  void (*merge)(const AttentionShape&, float* into, float* later);
  /// output [num_heads, latent_dim] = the state's output / its sum
  void (*finish)(const AttentionShape&, float* state, float* output);
};

/// @param table_index KernelPath's
AttentionKernel f32_attention_kernel(size_t table_index);

/// Puts the tile kernel in place of an f32 one. Only where KernelPath::tiles; not for f32 rows.
void use_attention_tiles(AttentionKernel& kernel);

}  // namespace indexshare
