// SPDX-License-Identifier: Apache-2.0
//   logit(h, s) = (query_latent[h] . latent[s] + query_rope[h] . rope[s]) * scale
//   output[h] = sum_s softmax(logit)(s) * latent[s]   over the row's list of s, all s <= t where there is
//   none
// A list is cut into chunks and a chunk into blocks, by index in the list and its length alone. A chunk
// starts afresh; blocks join their chunk in ascending order, and chunks their row. Each thread takes a share:
// a run of chunks, whatever rows they belong to, with about as many keys as the others'. Of a row cut by the
// end of a share, the chunks behind the cut ("tails") keep states of their own and are merged when all are
// done: the same sums in the same order. A few rows advance together, block by block, for the caches' sake.
#include <algorithm>
#include <limits>
#include <utility>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/sparse_attention_kernel.h"
#include "base/check.h"

namespace indexshare {

namespace {

constexpr int64_t kLeastChunk = 2 * kKeyBlock;
constexpr int64_t kMaxChunks = 64;            // bounds the tails of a row
constexpr int64_t kMaxTogether = 16;          // rows
constexpr int64_t kWorthAThread = 4'000'000;  // multiply-adds

struct Row {
  const SequenceRows* sequence;
  int64_t index, count;  // count: of its list, < 0 where the selection was rejected

  // Chunk boundaries depend on the list's length alone.
  int64_t chunk_size() const {
    const int64_t even = (count + kMaxChunks - 1) / kMaxChunks;
    return std::max<int64_t>(1, (even + kLeastChunk - 1) / kLeastChunk) * kLeastChunk;
  }
  int64_t num_chunks() const { return count <= 0 ? 0 : (count + chunk_size() - 1) / chunk_size(); }
};

template <class Visit>
void for_each_row(const SparseAttentionArgs& args, const Visit& visit) {
  for (const SequenceRows& s : args.sequences)
    for (int64_t row = s.row_begin; row < s.row_end; ++row)
      visit(Row{&s, row, args.slots ? args.counts[row] : s.first_position + (row - s.row_begin) + 1});
}

// visit(row, first, last) for the rows of which chunks [first, last) begin at keys [low, high) of all rows'.
template <class Visit>
void for_each_part(const SparseAttentionArgs& args, const AttentionShare& share, const Visit& visit) {
  int64_t at = 0;  // keys before the row
  for_each_row(args, [&](const Row& row) {
    const int64_t size = row.chunk_size(), begin = std::exchange(at, at + std::max<int64_t>(row.count, 0));
    if (row.count <= 0 || at <= share.low || begin >= share.high) return;
    const int64_t first = (std::max<int64_t>(share.low - begin, 0) + size - 1) / size;
    const int64_t last = std::min(row.num_chunks(), (share.high - begin + size - 1) / size);
    if (first < last) visit(row, first, last);
  });
}

/// The kernel and what every block shares.
struct AttentionRun {
  const SparseAttentionArgs& args;
  AttentionShape shape;
  AttentionKernel kernel;

  void finish(int64_t row, float* state) const {
    kernel.finish(shape, state, args.output + row * args.num_heads * args.latent_dim);
  }
};

// Elements [begin, begin + size) of a row's list.
void locate(const AttentionRun& run, const Row& row, int64_t begin, int64_t size, KeyBlock& block) {
  const LatentLayout& layout = run.shape.rows;
  const int64_t page_size = run.args.cache.page_size;
  if (run.args.slots) {
    const int32_t* slots = run.args.slots + row.index * run.args.width + begin;
    for (int64_t i = 0; i < size; ++i) block.rows[i] = layout.slot(slots[i]);
  } else {
    for (int64_t i = 0; i < size; ++i) {
      const int64_t place = begin + i;
      block.rows[i] = layout.row(row.sequence->page_table[place / page_size], place % page_size);
    }
  }
  block.size = size;
}

const KeyBlock kNoBlock = {};

/// Rows that advance together, block by block. Lists ascend, so neighbouring rows' blocks of the same number
/// lie in the same stretch of the cache, and one row finds in the second cache what another has read. The
/// states and queries of a group leave most of that cache (2 MiB) to the stretch.
int64_t rows_together(const AttentionRun& run) {
  constexpr int64_t kCacheForStates = int64_t{3} << 18;
  const int64_t bytes = run.shape.state_floats() * static_cast<int64_t>(sizeof(float)) +
                        static_cast<int64_t>(run.kernel.query_bytes(run.shape));
  return std::clamp<int64_t>(kCacheForStates / bytes, 1, kMaxTogether);
}

/// A share's states: for each row of a group its own and that of a chunk of several blocks, then the tails.
struct States {
  States(const AttentionRun& run, float* begin)
      : memory(begin), size(run.shape.state_floats()), group(rows_together(run)) {}
  static int64_t count(const AttentionRun& run, int64_t num_tails) {
    return 2 * rows_together(run) + num_tails;
  }

  float* row(int64_t part) const { return memory + part % group * 2 * size; }
  float* chunk(int64_t part) const { return row(part) + size; }
  float* tail(int64_t index) const { return memory + (2 * group + index) * size; }

  float* memory;
  int64_t size, group;
};

/// One share's blocks, one after another. A block waits until the next one is known, whose rows the kernel
/// may fetch ahead.
class Worker {
 public:
  Worker(const AttentionRun& run, AttentionShare& share, Scratch& memory) : run_(run), share_(share) {
    int64_t num_tails = 0;
    for_each_part(run.args, share, [&](const Row&, int64_t first, int64_t last) {
      if (first > 0) num_tails = last - first;
    });
    const size_t scratch = run.kernel.scratch_bytes(run.shape);
    query_bytes_ = (run.kernel.query_bytes(run.shape) + 63) / 64 * 64;
    const size_t queries = query_bytes_ * static_cast<size_t>(rows_together(run));
    const auto states = static_cast<size_t>(States::count(run, num_tails) * run.shape.state_floats());
    scratch_ = memory.bytes(scratch + queries + states * sizeof(float));
    queries_ = scratch_ + scratch;
    share.states = reinterpret_cast<float*>(queries_ + queries);
  }

  void attend() {
    Part group[kMaxTogether];
    int64_t in_group = 0, num_parts = 0;
    const int64_t group_size = rows_together(run_);
    for_each_part(run_.args, share_, [&](const Row& row, int64_t first, int64_t last) {
      group[in_group++] = {row, num_parts++, first, last, first};
      if (in_group == group_size) advance_together({group, static_cast<size_t>(std::exchange(in_group, 0))});
    });
    advance_together({group, static_cast<size_t>(in_group)});
    if (waiting_.size > 0) attend(waiting_, kNoBlock);
  }

 private:
  /// Chunks [first, last) of a row.
  struct Part {
    Row row;
    int64_t number;  // among the share's
    int64_t first, last;
    int64_t chunk;   // the next block's
    int64_t at = 0;  // the next block's first key in the chunk
  };

  struct Task {
    Row row;
    int64_t begin, size = 0;  // of the row's list
    std::byte* queries;
    float* state;       // joined by the block
    bool first;         // nothing is in the state yet
    float* merge_into;  // then joined by the state; nullptr: not
    bool arrange_queries, finish;
  };

  void advance_together(std::span<Part> group) {
    for (bool any = true; any;) {
      any = false;
      for (Part& part : group)
        if (part.chunk < part.last) {
          push(next_block(part));
          any = true;
        }
    }
  }

  Task next_block(Part& part) const {
    const States states(run_, share_.states);
    const Row& row = part.row;
    const bool tail = part.first > 0;
    const int64_t size = row.chunk_size(), begin = part.chunk * size, end = std::min(begin + size, row.count);
    const bool own_state = !tail && part.chunk > 0;
    float* to = tail        ? states.tail(part.chunk - part.first)
                : own_state ? states.chunk(part.number)
                            : states.row(part.number);
    const int64_t at = begin + part.at;
    Task task{row, at, std::min(kKeyBlock, end - at), queries_ + slot(part) * query_bytes_, to};
    const bool last = at + task.size == end;
    task.first = at == begin;
    task.merge_into = last && own_state ? states.row(part.number) : nullptr;
    task.arrange_queries = part.chunk == part.first && at == begin;
    task.finish = last && !tail && end == row.count;
    part.at = last ? 0 : part.at + task.size;
    part.chunk += last;
    return task;
  }

  size_t slot(const Part& part) const { return static_cast<size_t>(part.number % rows_together(run_)); }

  void push(const Task& task) {
    KeyBlock& next = blocks_[1 - current_];
    locate(run_, task.row, task.begin, task.size, next);
    if (waiting_.size > 0) attend(waiting_, next);
    waiting_ = task;
    current_ = 1 - current_;
  }

  void attend(const Task& task, const KeyBlock& next) {
    if (task.arrange_queries)
      run_.kernel.arrange_queries(run_.shape, run_.args, task.row.index, task.queries);
    run_.kernel.join_block(run_.shape, {&blocks_[current_], &next, task.queries, task.first}, scratch_,
                           task.state);
    if (task.merge_into) run_.kernel.merge(run_.shape, task.merge_into, task.state);
    if (task.finish) run_.finish(task.row.index, task.merge_into ? task.merge_into : task.state);
  }

  const AttentionRun& run_;
  AttentionShare& share_;
  std::byte *scratch_, *queries_;
  size_t query_bytes_;
  KeyBlock blocks_[2];
  int current_ = 0;
  Task waiting_ = {};
};

// Rows cut by the end of a share: their tails join what the share before left.
void merge_tails(const AttentionRun& run, std::span<const AttentionShare> shares) {
  float* cut = nullptr;  // state of the row cut last
  for (const AttentionShare& share : shares) {
    const States states(run, share.states);
    int64_t part = 0;
    for_each_part(run.args, share, [&](const Row& row, int64_t first, int64_t last) {
      const int64_t number = part++;
      if (first == 0) {
        cut = states.row(number);
        return;
      }
      for (int64_t i = 0; i < last - first; ++i) run.kernel.merge(run.shape, cut, states.tail(i));
      if (last == row.num_chunks()) run.finish(row.index, cut);
    });
  }
}

}  // namespace

void CpuBackend::sparse_attention(const SparseAttentionArgs& args) {
  ENSURE(args.cache.row_dim > 0 && args.cache.row_dim == args.latent_dim + args.rope_dim,
         "sparse_attention: rows of {} for {} + {}", args.cache.row_dim, args.latent_dim, args.rope_dim);
  ENSURE(args.cache.page_size > 0 && args.num_heads > 0, "sparse_attention: page_size {}, {} heads",
         args.cache.page_size, args.num_heads);
  AttentionRun run{args, AttentionShape(args), f32_attention_kernel(path_.table_index)};
  if (path_.tiles && args.cache.format != RowFormat::f32) use_attention_tiles(run.kernel);
  int64_t total = 0;  // keys of all rows
  for_each_row(args, [&](const Row& row) {
    ENSURE(!args.slots || row.count <= args.width, "sparse_attention: {} positions in a width of {}",
           row.count, args.width);
    total += std::max<int64_t>(row.count, 0);
    if (row.count <= 0)  // zeros, or NaN where the selection was rejected
      std::fill_n(args.output + row.index * args.num_heads * args.latent_dim,
                  args.num_heads * args.latent_dim,
                  row.count < 0 ? std::numeric_limits<float>::quiet_NaN() : 0.0f);
  });
  const int64_t cost = total * args.num_heads * (2 * args.latent_dim + args.rope_dim);
  const int64_t num_shares = std::clamp<int64_t>(cost / kWorthAThread, 1, pool_.size());
  attention_shares_.resize(static_cast<size_t>(num_shares));
  for (int64_t i = 0; i < num_shares; ++i)
    attention_shares_[static_cast<size_t>(i)] = {total * i / num_shares, total * (i + 1) / num_shares};
  parallel(num_shares, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const auto share = static_cast<size_t>(i);  // one memory for each, as tails outlive their worker
      Worker(run, attention_shares_[share], worker_scratch_[share]).attend();
    }
  });
  merge_tails(run, attention_shares_);
}

}  // namespace indexshare
