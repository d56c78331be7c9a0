// SPDX-License-Identifier: Apache-2.0
//   score(t, s) = sum_h head_weights[t, h] * relu(queries[t, h] . key[s])
//   Set(t) = Fix(t) joined with the topk best by (score descending, position ascending)
// Up to 64 rows of a sequence share each chunk of keys: a kernel scores the chunk (index_scores.h), then
// every row takes what passes its threshold (candidates.h) and forgets the rest. Where many rows are worth
// it, a sample of the keys, spread over all of them, is scored first and gives each row a guess of its final
// threshold. Chunks x rows over all sequences form one list that is cut into shares of equal cost. Where a
// cut falls inside a row block, its parts meet at the end: the best of the parts' best is the best of all, so
// cuts cannot show.
#include <algorithm>
#include <cmath>

#include "backend/cpu/candidates.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/emit_selection.h"
#include "backend/cpu/index_keys.h"
#include "backend/cpu/index_scores.h"
#include "backend/cpu/pack_queries.h"
#include "backend/fixed_pattern.h"
#include "base/check.h"

namespace indexshare {

namespace {

constexpr int64_t kMaxBlockRows = 64;                  // rows that share a chunk of keys
constexpr int64_t kCandidateBytes = int64_t{5} << 20;  // of a row block
constexpr int64_t kFewRows = 8, kMaxAhead = 1;         // chunks fetched ahead
constexpr int64_t kWorthAThread = 1'000'000;           // multiply-adds
constexpr int64_t kSampleOneOf = 64;                   // chunks
constexpr int64_t kLeastSample = 4, kSampleWorth = 5;  // chunks; not for less than so many samples

/// Rows [row_begin, row_begin + num_rows) of a sequence that have to be scored, the first at position
/// first_t.
struct RowBlock {
  const SequenceRows* sequence;
  int64_t row_begin, num_rows, first_t;
  int64_t num_chunks;
};

/// A piece of a row block that one share scanned when others scanned the rest.
struct Part {
  int64_t block = -1;  // -1: unused
  Candidates* rows = nullptr;
};

struct Kernels {
  QueryForm form;
  PackQueries pack;
  ScoreChunk score;
  CandidateKernels candidates;
};

Kernels choose_kernels([[maybe_unused]] RowFormat keys, const KernelPath& path) {
  Kernels kernels{QueryForm::floats, pack_queries(path.table_index), f32_score_chunk(path.table_index),
                  candidate_kernels(path.table_index)};
#ifdef INDEXSHARE_X86_KERNELS
  if (path.tiles && keys != RowFormat::f32) {
    kernels.form = keys == RowFormat::int8 ? QueryForm::codes : QueryForm::bf16;
    kernels.score = amx::score_chunk;
    kernels.candidates.append = amx::append_passing;
  } else if (path.vnni && keys == RowFormat::int8) {
    kernels.form = QueryForm::codes;
    kernels.score = vnni::score_chunk;
  }
#endif
  return kernels;
}

/// Hands out arrays one behind the other, 64-byte aligned; without memory it only counts.
class Carver {
 public:
  explicit Carver(std::byte* memory) : memory_(memory) {}
  template <class T>
  T* array(int64_t count) {
    std::byte* at = memory_ ? memory_ + used_ : nullptr;
    used_ += (static_cast<size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return reinterpret_cast<T*>(at);
  }
  size_t used() const { return used_; }

 private:
  std::byte* memory_;
  size_t used_ = 0;
};

/// Memory of one share.
struct ShareMemory {
  // Of block rows: [0] for whole blocks and for the part that a share ends with, [1] for the part it begins
  // with.
  Candidates* sets[2];
  std::byte* queries;
  float *weights, *biases;
  int32_t* sums;
  float *thresholds, *wide_keys, *scores;
  uint16_t* passes;
};

bool needs_scores(const IndexSelectArgs& args, int64_t t) { return args.topk > 0 && t + 1 > args.topk; }

/// One call of index_select: what its shares have in common.
class Selection {
 public:
  Selection(const IndexSelectArgs& args, const Kernels& kernels)
      : args_(args), kernels_(kernels), layout_(args.keys), capacity_(Candidates::capacity_for(args.topk)) {
    const int64_t row_bytes = capacity_ * static_cast<int64_t>(sizeof(float) + sizeof(int32_t));
    block_rows_ = std::clamp<int64_t>(kCandidateBytes / row_bytes, 1, kMaxBlockRows);
    for_each_block([&](const RowBlock& b) {
      ++num_blocks_;
      total_ += b.num_chunks * b.num_rows;
      largest_block_ = std::max(largest_block_, b.num_rows);
    });
  }

  int64_t total() const { return total_; }  // chunks x rows
  int64_t multiply_adds() const { return total_ * kChunkKeys * args_.num_heads * args_.head_dim; }

  size_t lay_out(std::byte* memory, int64_t shares);
  // Chunks x rows [low, high) of the list of all blocks.
  void scan(int64_t share, int64_t low, int64_t high);
  // Joins the parts of the blocks that were cut.
  void join();

 private:
  template <class Body>
  void for_each_block(const Body& body) const;
  ShareMemory share_memory(Carver& carver) const;
  Candidates* empty_set(const ShareMemory& memory, int which) const;
  int64_t num_chunks(int64_t t) const;
  KeyChunk find_chunk(const RowBlock& block, int64_t first_group, int64_t every) const;
  ScoreArgs pack(const RowBlock& block, const ShareMemory& memory) const;
  void take_chunks(const RowBlock& block, int64_t first_group, int64_t every, int64_t count,
                   const ScoreArgs& scoring, const ShareMemory& memory, Candidates* rows) const;
  bool guess_thresholds(const RowBlock& block, int64_t begin, int64_t end, const ScoreArgs& scoring,
                        const ShareMemory& memory, Candidates* rows) const;
  void scan_again(const RowBlock& block, int64_t begin, int64_t end, const ShareMemory& memory,
                  Candidates* rows) const;
  void scan_chunks(const RowBlock& block, int64_t begin, int64_t end, const ShareMemory& memory,
                   Candidates* rows) const;
  void emit(const RowBlock& block, const Candidates* rows) const;

  const IndexSelectArgs& args_;
  const Kernels kernels_;
  const IndexKeyLayout layout_;
  const int64_t capacity_;
  int64_t block_rows_, num_blocks_ = 0, total_ = 0, largest_block_ = 0, shares_ = 0;
  std::byte* share_memory_ = nullptr;
  size_t share_bytes_ = 0;
  RowBlock* blocks_ = nullptr;  // [num_blocks_]
  Part* parts_ = nullptr;       // [2 * shares] first and last of each share: in ascending chunks
};

template <class Body>
void Selection::for_each_block(const Body& body) const {
  for (const SequenceRows& s : args_.sequences) {
    int64_t row = s.row_begin;
    while (row < s.row_end && !needs_scores(args_, s.first_position + row - s.row_begin)) ++row;
    for (; row < s.row_end; row += block_rows_) {
      const int64_t rows = std::min(block_rows_, s.row_end - row), t = s.first_position + row - s.row_begin;
      body(RowBlock{&s, row, rows, t, num_chunks(t + rows - 1)});
    }
  }
}

ShareMemory Selection::share_memory(Carver& carver) const {
  const int64_t queries = largest_block_ * packed_heads(args_.num_heads, kernels_.form),
                rows = largest_block_ + PackedQueries::kSlack, dim = packed_dim(args_, kernels_.form);
  ShareMemory m;
  for (Candidates*& set : m.sets) set = carver.array<Candidates>(largest_block_);
  const auto query_bytes = static_cast<int64_t>(query_element_bytes(kernels_.form)) * dim;
  m.queries = carver.array<std::byte>((queries + PackedQueries::kSlack) * query_bytes);
  m.weights = carver.array<float>(queries + PackedQueries::kSlack);
  m.biases = carver.array<float>(rows);
  m.sums = carver.array<int32_t>(queries);
  m.thresholds = carver.array<float>(rows);
  m.wide_keys = carver.array<float>(2 * kKeyGroup * args_.head_dim);
  m.scores = carver.array<float>(rows * kChunkKeys);
  m.passes = carver.array<uint16_t>(rows * kChunkGroups);
  int32_t* order[3];
  for (int32_t*& each : order) each = carver.array<int32_t>(capacity_);
  for (Candidates* set : m.sets)
    for (int64_t r = 0; r < largest_block_; ++r) {
      const Candidates candidates{carver.array<float>(capacity_),
                                  carver.array<int32_t>(capacity_),
                                  {order[0], order[1], order[2]},
                                  capacity_,
                                  args_.topk};
      if (set) set[r] = candidates;
    }
  return m;
}

// Of everything the call needs; returns the bytes. Without memory it only counts.
size_t Selection::lay_out(std::byte* memory, int64_t shares) {
  Carver carver(memory);
  shares_ = shares;
  blocks_ = carver.array<RowBlock>(num_blocks_);
  parts_ = carver.array<Part>(2 * shares);
  Carver counting(nullptr);
  share_memory(counting);
  share_bytes_ = counting.used();
  share_memory_ = carver.array<std::byte>(static_cast<int64_t>(share_bytes_) * shares);
  if (memory) {
    std::fill_n(parts_, 2 * shares, Part{});
    RowBlock* next = blocks_;
    for_each_block([&](const RowBlock& b) { *next++ = b; });
  }
  return carver.used();
}

int64_t Selection::num_chunks(int64_t t) const {
  const int64_t page_size = args_.keys.page_size;
  const int64_t groups = t / page_size * layout_.groups_per_page + t % page_size / kKeyGroup + 1;
  return (groups + kChunkGroups - 1) / kChunkGroups;
}

// Groups first_group, first_group + every, ... of the sequence.
KeyChunk Selection::find_chunk(const RowBlock& block, int64_t first_group, int64_t every) const {
  const int64_t page_size = args_.keys.page_size, last = block.first_t + block.num_rows - 1;
  int64_t page = first_group / layout_.groups_per_page, group = first_group % layout_.groups_per_page;
  KeyChunk chunk;
  for (int64_t g = 0; g < kChunkGroups; ++g, group += every) {
    if (group >= layout_.groups_per_page) {
      page += group / layout_.groups_per_page;
      group %= layout_.groups_per_page;
    }
    const int64_t offset = group * kKeyGroup;
    chunk.position[g] = page * page_size + offset;
    const bool exists = chunk.position[g] <= last;  // beyond, the page table ends
    chunk.size[g] = exists ? std::min(kKeyGroup, page_size - offset) : 0;
    chunk.group[g] = exists ? layout_.group(block.sequence->page_table[page], group) : chunk.group[0];
  }
  return chunk;
}

ScoreArgs Selection::pack(const RowBlock& block, const ShareMemory& m) const {
  ScoreArgs scoring{{block.num_rows, packed_heads(args_.num_heads, kernels_.form),
                     packed_dim(args_, kernels_.form), m.queries, m.weights, m.biases, m.sums},
                    layout_,
                    m.thresholds,
                    m.wide_keys,
                    m.scores,
                    m.passes};
  kernels_.pack({&args_, block.row_begin, kernels_.form, &scoring.queries});
  return scoring;
}

// `count` chunks, made of every `every`-th group from first_group on.
void Selection::take_chunks(const RowBlock& block, int64_t first_group, int64_t every, int64_t count,
                            const ScoreArgs& scoring, const ShareMemory& memory, Candidates* rows) const {
  const bool fill = args_.pattern.active() && args_.pattern.mode == FixedPattern::Mode::fill;
  for (int64_t r = 0; r < block.num_rows; ++r) memory.thresholds[r] = rows[r].threshold;
  std::fill_n(memory.thresholds + block.num_rows, PackedQueries::kSlack, 0.0f);
  // Few rows are done with a chunk before the next one is there: memory is asked earlier.
  const int64_t ahead = block.num_rows <= kFewRows ? kMaxAhead : 1;
  KeyChunk ring[kMaxAhead + 1];
  const auto chunk_at = [&](int64_t index) -> KeyChunk& { return ring[index % (kMaxAhead + 1)]; };
  const auto find = [&](int64_t index) {
    chunk_at(index) = find_chunk(block, first_group + index * kChunkGroups * every, every);
  };
  for (int64_t index = 0; index < std::min(ahead, count); ++index) find(index);
  for (int64_t index = 0; index < count; ++index) {
    const bool more = index + ahead < count;
    if (more) find(index + ahead);
    kernels_.score(scoring, chunk_at(index), more ? &chunk_at(index + ahead) : nullptr);
    kernels_.candidates.take({memory.scores, memory.passes, memory.thresholds, &chunk_at(index),
                              block.num_rows, block.first_t, fill ? &args_.pattern : nullptr, rows,
                              kernels_.candidates.append});
  }
}

// From a sample of the keys; false where it is not worth it. Of the sample's scores, `expected` should be
// among the topk best; a threshold that lets a few standard deviations more pass is seldom too high.
bool Selection::guess_thresholds(const RowBlock& block, int64_t begin, int64_t end, const ScoreArgs& scoring,
                                 const ShareMemory& memory, Candidates* rows) const {
  const int64_t fits = (capacity_ - Candidates::kSlack) / kChunkKeys;
  const int64_t chunks = std::min(std::max((end - begin) / kSampleOneOf, kLeastSample), fits);
  if (block.num_rows <= kFewRows || chunks < 2 || (end - begin) / chunks < kSampleWorth) return false;
  const int64_t every = (end - begin) / chunks;
  take_chunks(block, begin * kChunkGroups + every / 2, every, chunks, scoring, memory, rows);
  const double expected =
      static_cast<double>(args_.topk) * static_cast<double>(chunks) / static_cast<double>(end - begin);
  const auto rank = static_cast<int64_t>(expected + 3 * std::sqrt(expected) + 3);
  for (int64_t r = 0; r < block.num_rows; ++r) kernels_.candidates.guess(rows[r], rank);
  return true;
}

// Without guesses, the rows from the first to the last of those that found too few.
void Selection::scan_again(const RowBlock& block, int64_t begin, int64_t end, const ShareMemory& memory,
                           Candidates* rows) const {
  const auto too_few = [&](int64_t r) { return rows[r].count < args_.topk && !rows[r].has_nan; };
  int64_t low = 0, high = block.num_rows;
  while (low < high && !too_few(low)) ++low;
  while (low < high && !too_few(high - 1)) --high;
  if (low == high) return;
  RowBlock again = block;
  again.row_begin += low;
  again.first_t += low;
  again.num_rows = high - low;
  for (int64_t r = low; r < high; ++r) rows[r].clear();
  take_chunks(again, begin * kChunkGroups, 1, end - begin, pack(again, memory), memory, rows + low);
}

void Selection::scan_chunks(const RowBlock& block, int64_t begin, int64_t end, const ShareMemory& memory,
                            Candidates* rows) const {
  const ScoreArgs scoring = pack(block, memory);
  const bool guessed = guess_thresholds(block, begin, end, scoring, memory, rows);
  take_chunks(block, begin * kChunkGroups, 1, end - begin, scoring, memory, rows);
  if (guessed) scan_again(block, begin, end, memory, rows);
  for (int64_t r = 0; r < block.num_rows; ++r) kernels_.candidates.cut(rows[r]);
}

Candidates* Selection::empty_set(const ShareMemory& memory, int which) const {
  Candidates* set = memory.sets[which];
  for (int64_t r = 0; r < largest_block_; ++r) set[r].clear();
  return set;
}

void Selection::emit(const RowBlock& block, const Candidates* rows) const {
  for (int64_t r = 0; r < block.num_rows; ++r)
    emit_scored(args_, block.row_begin + r, block.first_t + r, rows[r]);
}

void Selection::scan(int64_t share, int64_t low, int64_t high) {
  Carver carver(share_memory_ + share_bytes_ * static_cast<size_t>(share));
  const ShareMemory memory = share_memory(carver);
  int64_t start = 0;
  for (int64_t index = 0; index < num_blocks_; ++index) {
    const RowBlock& b = blocks_[index];
    const auto first_chunk = [&](int64_t at) {
      return at <= start ? 0 : std::min((at - start + b.num_rows - 1) / b.num_rows, b.num_chunks);
    };
    const int64_t begin = first_chunk(low), end = first_chunk(high);
    start += b.num_chunks * b.num_rows;
    if (begin >= end) continue;
    Candidates* rows = empty_set(memory, begin > 0 ? 1 : 0);
    scan_chunks(b, begin, end, memory, rows);
    if (begin == 0 && end == b.num_chunks)
      emit(b, rows);
    else
      parts_[2 * share + (begin > 0 ? 0 : 1)] = {index, rows};
  }
}

void Selection::join() {
  for (int64_t first = 0; first < 2 * shares_; ++first) {
    if (parts_[first].block < 0) continue;
    const RowBlock& b = blocks_[parts_[first].block];
    Candidates* rows = parts_[first].rows;
    for (int64_t p = first + 1; p < 2 * shares_; ++p) {
      if (parts_[p].block != parts_[first].block) continue;
      for (int64_t r = 0; r < b.num_rows; ++r) kernels_.candidates.merge(rows[r], parts_[p].rows[r]);
      parts_[p].block = -1;
    }
    emit(b, rows);
  }
}

}  // namespace

void CpuBackend::index_select(const IndexSelectArgs& args) {
  ENSURE(args.topk > 0 || args.pattern.active(), "index_select: neither top-k nor a fixed pattern");
  ENSURE(args.topk == 0 || (args.keys.row_dim == args.head_dim && args.keys.page_size > 0),
         "index_select: keys of {} in pages of {}, head_dim {}", args.keys.row_dim, args.keys.page_size,
         args.head_dim);
  ENSURE(args.keys.format != RowFormat::int8 || args.head_dim <= kMaxInt8Dim,
         "index_select: int8 keys of {} dimensions", args.head_dim);
  for (const SequenceRows& s : args.sequences)
    for (int64_t row = s.row_begin; row < s.row_end; ++row) {
      const int64_t t = s.first_position + row - s.row_begin;
      if (!needs_scores(args, t)) emit_unscored(args, row, t);
    }
  if (args.topk == 0) return;
  Selection selection(args, choose_kernels(args.keys.format, path_));
  if (selection.total() == 0) return;
  const int64_t shares = std::clamp<int64_t>(selection.multiply_adds() / kWorthAThread, 1, pool_.size());
  selection.lay_out(scratch_.bytes(selection.lay_out(nullptr, shares)), shares);
  parallel(shares, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t share = begin; share < end; ++share)
      selection.scan(share, selection.total() * share / shares, selection.total() * (share + 1) / shares);
  });
  selection.join();
}

}  // namespace indexshare
