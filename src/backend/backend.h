// SPDX-License-Identifier: Apache-2.0
// The seam between mathematics and machine: one abstract class with a few coarse operations, each taking one
// struct whose fields carry their shapes. reference/ implements them in plain loops and is their definition.
//
// Promise of every backend: an output element depends on its own row's inputs alone and is reduced in one
// fixed order, so results are bitwise the same for any number of rows, batch mates, chunk size or threads.
// All arrays are row-major, f32 unless said, in the backend's memory; `stride` counts elements between rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/tensor.h"
#include "indexshare/options.h"

namespace indexshare {

/// How cache rows are stored. int8: codes with one f32 scale a group of elements (quantise.h).
enum class RowFormat { f32, bf16, int8 };
std::string row_format_name(RowFormat format);     // "f32", ...
RowFormat row_format_of(const std::string& name);  // @throws Error{invalid_argument}

/// How a weight is kept, whatever the checkpoint's type: int8 in groups of 128 columns, int4 in groups of 64,
/// symmetric, one f32 scale a group (quantise.h).
enum class WeightFormat { as_stored, int8, int4 };

/// A weight matrix in the backend's own layout, [out, in]; y = x W^T.
class Matrix {
 public:
  virtual ~Matrix() = default;
  virtual int64_t out_dim() const = 0;
  virtual int64_t in_dim() const = 0;
  virtual size_t num_bytes() const = 0;  // memory of its own; 0 where it uses the mapped file
};

struct MatrixSource {
  TensorView
      weight;  // [rows, cols] f32, f16, bf16, f8_e4m3, or i8: codes quantised before (not with transpose)
  // f8: [ceil(rows/128), ceil(cols/128)] f32; i8 (codes of `format`): [rows, ceil(cols/group)] f32; else
  // data == nullptr
  TensorView scale_inv = {};
  // First row of `weight` within the blocks of `scale_inv`, whose rows then are those of a larger matrix that
  // `weight` was cut from. Not with transpose.
  int64_t scale_row_offset = 0;
  bool transpose = false;                         // load W^T instead: out_dim = cols, in_dim = rows
  WeightFormat format = WeightFormat::as_stored;  // quantised after transposing, along the summed axis
  // How finely both factors may be rounded on their way into the product, whose sums are f32: 32 = not at
  // all; 16 = to bf16, int8, int4 and f8 weights after their scale; 8 = x by group of the weight's columns to
  // int8 where the weight is int8 or int4. A backend without a faster way for fewer bits may use more, also a
  // 16-bit integer per group.
  int activation_bits = 32;
  bool lookup_only = false;  // used by embed() alone: may stay in the mapped file, row-major
};

/// Memory of the backend. Zeroed on first touch; large ones cost physical memory only where touched.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual void* data() = 0;
  virtual size_t num_bytes() const = 0;
};

/// Rows [row_begin, row_end) of a batch belong to one sequence, at positions first_position,
/// first_position+1, ...
struct SequenceRows {
  int64_t row_begin = 0, row_end = 0;
  int64_t first_position = 0;
  const int32_t* page_table =
      nullptr;  // [ceil((first_position + rows)/page_size)] physical page of each logical page
};

/// Cached rows of one layer: pages of `page_size` rows of `row_dim` elements. The layout inside a page is the
/// backend's own (page_bytes()).
struct CachePages {
  void* pages = nullptr;
  RowFormat format = RowFormat::f32;
  int64_t page_size = 0, row_dim = 0;
  // int8 latents: so many last elements of a row (the rope part, whose size varies most) stay in bf16, the
  // others have one scale every 128. Index keys: 0, and one scale for the whole row.
  int64_t bf16_tail = 0;
};

struct LinearArgs {
  const float* x = nullptr;  // [num_rows, in_dim]
  int64_t x_stride = 0;
  const Matrix* weight = nullptr;  // [out_dim, in_dim]
  float* y = nullptr;              // [num_rows, out_dim]
  int64_t y_stride = 0;
  int64_t num_rows = 0;
};

struct EmbedArgs {
  const int32_t* tokens = nullptr;  // [num_rows]
  const Matrix* table = nullptr;    // [vocab, hidden]
  float* y = nullptr;               // [num_rows, hidden]
  int64_t num_rows = 0;
};

/// y = x / sqrt(mean(x^2) + eps) * weight, a row at a time. y may be x.
struct RmsNormArgs {
  const float* x = nullptr;  // [num_rows, dim]
  int64_t x_stride = 0;
  const float* weight = nullptr;  // [dim]
  float* y = nullptr;             // [num_rows, dim]
  int64_t y_stride = 0;
  int64_t num_rows = 0, dim = 0;
  float eps = 0;
};

/// y = (x - mean) / sqrt(var + eps) * weight + bias, a row at a time. y may be x.
struct LayerNormArgs {
  const float* x = nullptr;  // [num_rows, dim]
  int64_t x_stride = 0;
  const float* weight = nullptr;  // [dim]
  const float* bias = nullptr;    // [dim]
  float* y = nullptr;             // [num_rows, dim]
  int64_t y_stride = 0;
  int64_t num_rows = 0, dim = 0;
  float eps = 0;
};

enum class RopePairs { interleaved, half_split };  // (x[2j], x[2j+1]) or (x[j], x[j + rope_dim/2])

/// Rotates the first rope_dim elements of every head in place by angle position * inv_freq[j], angles in f32
/// (the product rounded once), cos and sin of that f32 angle.
struct RopeArgs {
  float* x = nullptr;  // [num_rows, num_heads, >= rope_dim], points at the first rotated element
  int64_t row_stride = 0, head_stride = 0;
  const int64_t* positions = nullptr;  // [num_rows]
  const float* inv_freq = nullptr;     // [rope_dim / 2]
  int64_t num_rows = 0, num_heads = 0, rope_dim = 0;
  RopePairs pairs = RopePairs::interleaved;
  float amplitude = 1;  // cos and sin are multiplied by it (YaRN's attention factor)
};

/// y = silu(gate) * up, silu(z) = z / (1 + exp(-z)). y may be gate or up.
struct SiluMultiplyArgs {
  const float* gate = nullptr;  // [num_rows, dim]
  const float* up = nullptr;    // [num_rows, dim]
  float* y = nullptr;           // [num_rows, dim]
  int64_t num_rows = 0, dim = 0;
};

/// x += y.
struct AddArgs {
  float* x = nullptr;        // [count]
  const float* y = nullptr;  // [count]
  int64_t count = 0;
};

/// DeepSeek-V3's sigmoid router without auxiliary loss. choice = sigmoid(logits) + bias; groups ranked by the
/// sum of their two largest choices, others excluded; experts by (choice descending, index ascending);
/// weights = sigmoid / (sum + 1e-20) * scale (without the division where !normalize). Groups too are taken by
/// (rank descending, index ascending). Experts are emitted in ascending index.
struct RouteArgs {
  const float* logits = nullptr;  // [num_rows, num_experts]
  const float* bias = nullptr;    // [num_experts]
  int64_t num_rows = 0, num_experts = 0, experts_per_token = 0, num_groups = 1, groups_per_token = 1;
  float scale = 1;
  bool normalize = true;
  int32_t* experts = nullptr;  // [num_rows, experts_per_token]
  float* weights = nullptr;    // [num_rows, experts_per_token]
};

struct Expert {
  const Matrix* gate = nullptr;  // [expert_dim, hidden]
  const Matrix* up = nullptr;    // [expert_dim, hidden]
  const Matrix* down = nullptr;  // [hidden, expert_dim]
};

/// y = sum over the row's experts, in the order given, of weight * down(silu(gate x) * up x).
struct ExpertsArgs {
  const float* x = nullptr;            // [num_rows, hidden]
  const int32_t* experts = nullptr;    // [num_rows, experts_per_token]
  const float* weights = nullptr;      // [num_rows, experts_per_token]
  std::span<const Expert> table = {};  // [num_experts]
  int64_t num_rows = 0, experts_per_token = 0, hidden = 0, expert_dim = 0;
  float* y = nullptr;  // [num_rows, hidden]
};

/// Stores each row at its sequence's position, rounded to the cache's format (nearest even).
struct WriteCacheArgs {
  const float* x = nullptr;  // [num_rows, row_dim]
  int64_t x_stride = 0;
  CachePages cache = {};
  std::span<const SequenceRows> sequences = {};
};

/// Latents of one sequence back as f32, as attention reads them. For analysis, not for the forward pass.
struct ReadLatentsArgs {
  CachePages cache = {};
  const int32_t* page_table = nullptr;  // as SequenceRows has it
  int64_t position_begin = 0, position_end = 0;
  float* rows = nullptr;  // [position_end - position_begin, row_dim]
};

/// The lightning indexer's scores and the choice, fused; never holds queries x context scores.
///   score(t, s) = sum_h head_weights[t, h] * relu(queries[t, h] . key[s])   for s <= t, h ascending
/// Chooses the min(topk, t+1) largest by (score descending, position ascending), joined with the fixed
/// pattern (which counts strided positions inside the window against its cap), emitted in ascending position,
/// -1 padded. -0 equals +0. Rows with at most topk visible positions are filled without scoring. A scored row
/// with a NaN at any visible position, relu(NaN) being NaN, gets count -1 and no positions.
/// int8 keys, of at most 512 dimensions: queries are quantised too, by head (quantise.h), dot products are
/// integers and, in f32 with w = head_weights[t, h] * query_scale[t, h] and one fused multiply-add a head,
///   score(t, s) = key_scale[s] * (sum_h w * (2^23 + relu(dot)) - sum_h w * 2^23),  both sums h ascending:
/// the same bits, hence the same set, everywhere. (2^23 spares the fastest path a conversion and rounds sums
/// to about heads units of a dot product, where quantising costs a hundred.)
struct IndexSelectArgs {
  const float* queries = nullptr;       // [num_rows, num_heads, head_dim]; unused where topk == 0
  const float* head_weights = nullptr;  // [num_rows, num_heads]
  CachePages keys = {};                 // row_dim = head_dim; the rows' own keys are already written
  std::span<const SequenceRows> sequences = {};
  int64_t num_rows = 0, num_heads = 0, head_dim = 0, topk = 0;
  FixedPattern pattern = {};
  int64_t width = 0;             // >= the largest set; selection_width()
  int32_t* positions = nullptr;  // [num_rows, width]
  int32_t* counts = nullptr;     // [num_rows]
};

/// Logical positions to physical slots (page * page_size + offset), -1 from counts[row] on; once a share
/// group.
struct TranslateArgs {
  const int32_t* positions = nullptr;  // [num_rows, width]
  const int32_t* counts = nullptr;     // [num_rows]
  int64_t width = 0, page_size = 0;
  std::span<const SequenceRows> sequences = {};
  int32_t* slots = nullptr;  // [num_rows, width]
};

/// Absorbed MLA over the selection: logit(t, h, s) = (query_latent . latent[s] + query_rope . rope[s]) *
/// scale, one softmax over the selected s, output = sum of weight * latent[s]. slots == nullptr: over all s
/// <= t. Both walk positions in ascending order, so that a selection of everything equals dense attention bit
/// for bit. An empty selection gives zeros.
struct SparseAttentionArgs {
  const float* query_latent = nullptr;  // [num_rows, num_heads, latent_dim]
  const float* query_rope =
      nullptr;  // [num_rows, num_heads, rope_dim], head h at query_rope + row*row_stride + h*head_stride
  int64_t rope_row_stride = 0, rope_head_stride = 0;
  CachePages cache = {};  // row_dim = latent_dim + rope_dim, latent first
  std::span<const SequenceRows> sequences = {};
  const int32_t* slots = nullptr;   // [num_rows, width], see above
  const int32_t* counts = nullptr;  // [num_rows]; a negative count (NaN row) gives a row of NaN
  int64_t width = 0;
  int64_t num_rows = 0, num_heads = 0, latent_dim = 0, rope_dim = 0;
  float scale = 1;
  float* output = nullptr;  // [num_rows, num_heads, latent_dim]
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string description() const = 0;     // e.g. "cpu (amx, 2 threads)"
  virtual std::string note() const { return {}; }  // what the user should know, e.g. why not a faster path

  virtual std::unique_ptr<Buffer> allocate(size_t num_bytes) = 0;
  virtual std::unique_ptr<Matrix> load_matrix(const MatrixSource& source) = 0;
  /// Bytes of one page of such rows in this backend's layout (`pages` is not looked at).
  virtual size_t latent_page_bytes(const CachePages& rows) const = 0;
  virtual size_t index_key_page_bytes(const CachePages& rows) const = 0;
  /// Copies within the backend's memory. The default is memcpy, for backends whose memory is the host's.
  virtual void copy(void* to, const void* from, size_t num_bytes);

  virtual void embed(const EmbedArgs& args) = 0;
  virtual void linear(std::span<const LinearArgs> products) = 0;  // independent products, outputs disjoint
  virtual void rms_norm(const RmsNormArgs& args) = 0;
  virtual void layer_norm(const LayerNormArgs& args) = 0;
  virtual void rope(const RopeArgs& args) = 0;
  virtual void silu_multiply(const SiluMultiplyArgs& args) = 0;
  virtual void add(const AddArgs& args) = 0;
  virtual void route(const RouteArgs& args) = 0;
  virtual void experts(const ExpertsArgs& args) = 0;
  virtual void write_latents(const WriteCacheArgs& args) = 0;
  virtual void write_index_keys(const WriteCacheArgs& args) = 0;
  virtual void read_latents(const ReadLatentsArgs& args) = 0;
  virtual void index_select(const IndexSelectArgs& args) = 0;
  virtual void translate(const TranslateArgs& args) = 0;
  virtual void sparse_attention(const SparseAttentionArgs& args) = 0;
};

/// An upper bound of the sets index_select emits for queries at positions < max_positions.
int64_t selection_width(const FixedPattern& pattern, int64_t topk, int64_t max_positions);

/// @param name "reference" | "cpu" | "cuda"; @param threads 0 = what the process may use.
/// @throws Error{invalid_argument} for another name, Error{device} where the build or the machine lacks it.
std::unique_ptr<Backend> make_backend(const std::string& name, int threads);

}  // namespace indexshare
