// SPDX-License-Identifier: Apache-2.0
//   score(t, s) = sum_h head_weights[t, h] * relu(queries[t, h] . key[s]),  h and dimension ascending
//   Set(t) = Fix(t) joined with the topk best by (score descending, position ascending)
// Lanes are keys: each dot product is one chain of FMAs, so a score does not depend on who else is scored.
// Work: up to 16 rows of a sequence share each tile of 32 keys (widened to f32 once); tiles x rows over all
// sequences form one list that is cut into shares of equal cost. A score is compared with its row's threshold
// as soon as it exists and mostly forgotten (candidates.h). Where a cut falls inside a row block, its parts
// meet at the end: the best of the parts' best is the best of all, so cuts cannot show. Layout of the keys:
// index_keys.h.
#include <algorithm>
#include <limits>
#include <vector>

#include "backend/cpu/candidates.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/index_keys.h"
#include "backend/fixed_pattern.h"
#include "base/check.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "backend/cpu/index_select.cpp"
#include "backend/cpu/targets.h"
// After targets.h.
#include <hwy/highway.h>

#include "backend/cpu/candidates-inl.h"

#ifndef INDEXSHARE_CPU_INDEX_SELECT_ONCE_
#define INDEXSHARE_CPU_INDEX_SELECT_ONCE_
namespace indexshare {

constexpr int64_t kMaxBlockRows = 16;  // rows that share a tile of keys
constexpr int64_t kTileKeys = 2 * kKeyGroup;

/// Rows [row_begin, row_begin + num_rows) of a sequence that have to be scored, the first at position
/// first_t.
struct RowBlock {
  const SequenceRows* sequence;
  int64_t row_begin, num_rows, first_t;
  int64_t num_tiles;  // of kTileKeys keys, in the order of the page table
};

/// Tiles [tile_begin, tile_end) of a row block.
struct ScanArgs {
  const IndexSelectArgs* args;
  RowBlock block;
  int64_t tile_begin, tile_end;
  Candidates* candidates;  // [num_rows]
  float* keys;             // [2, head_dim, 16] for widened keys
};

}  // namespace indexshare
#endif

HWY_BEFORE_NAMESPACE();
namespace indexshare {
namespace HWY_NAMESPACE {

// Heads of a register tile: kHeads x 2 vectors of keys.
constexpr int kHeads = kLanes == 16 ? 8 : 4;

// 32 keys: groups [head_dim][16], the positions they start at and how many of them exist.
struct KeyTile {
  const void* group[2];
  const std::byte* next[2];  // what to fetch meanwhile
  int64_t position[2], size[2];
};

struct WideKeys {
  using Element = float;
  static HWY_INLINE Floats load_keys(const float* p) { return load(p); }
};
struct StoredBf16 {
  using Element = uint16_t;
  static HWY_INLINE Floats load_keys(const uint16_t* p) { return load_bf16(p); }
};

// Lanes [lane, lane + kLanes) of both groups of a tile.
template <class Keys>
struct KeyLanes {
  const typename Keys::Element *keys0, *keys1;
  const std::byte *next0, *next1;
};

// Adds R heads' share of the scores of kLanes keys of either group.
template <int R, class Keys>
HWY_INLINE void add_heads(const float* queries, const float* weights, int64_t dim, const KeyLanes<Keys>& keys,
                          Floats& score0, Floats& score1) {
  constexpr size_t kStep = kKeyGroup * sizeof(typename Keys::Element);
  Floats acc0[R], acc1[R];
  const Floats zero = hn::Zero(FloatTag());
  for (int r = 0; r < R; ++r) acc0[r] = acc1[r] = zero;
  for (int64_t d = 0; d < dim; ++d) {
    const Floats k0 = Keys::load_keys(keys.keys0 + d * kKeyGroup),
                 k1 = Keys::load_keys(keys.keys1 + d * kKeyGroup);
    __builtin_prefetch(keys.next0 + static_cast<size_t>(d) * kStep);
    __builtin_prefetch(keys.next1 + static_cast<size_t>(d) * kStep);
    for (int r = 0; r < R; ++r) {
      const Floats q = broadcast(queries[r * dim + d]);
      acc0[r] = hn::MulAdd(q, k0, acc0[r]);
      acc1[r] = hn::MulAdd(q, k1, acc1[r]);
    }
  }
  for (int r = 0; r < R; ++r) {  // relu by comparison: NaN stays
    const Floats w = broadcast(weights[r]);
    score0 = hn::MulAdd(w, hn::IfThenElse(hn::Lt(acc0[r], zero), zero, acc0[r]), score0);
    score1 = hn::MulAdd(w, hn::IfThenElse(hn::Lt(acc1[r], zero), zero, acc1[r]), score1);
  }
}

// Scores of one row against kLanes keys of either group.
template <class Keys>
HWY_INLINE void score_keys(const IndexSelectArgs& a, int64_t row, const KeyTile& tile, size_t lane,
                           Floats& score0, Floats& score1) {
  using Element = typename Keys::Element;
  const float* queries = a.queries + row * a.num_heads * a.head_dim;  // [num_heads, head_dim]
  const float* weights = a.head_weights + row * a.num_heads;
  const KeyLanes<Keys> keys{static_cast<const Element*>(tile.group[0]) + lane,
                            static_cast<const Element*>(tile.group[1]) + lane, tile.next[0], tile.next[1]};
  score0 = score1 = hn::Zero(FloatTag());
  int64_t h = 0;
  for (; h + kHeads <= a.num_heads; h += kHeads)
    add_heads<kHeads, Keys>(queries + h * a.head_dim, weights + h, a.head_dim, keys, score0, score1);
  for (; h + 4 <= a.num_heads; h += 4)
    add_heads<4, Keys>(queries + h * a.head_dim, weights + h, a.head_dim, keys, score0, score1);
  for (; h < a.num_heads; ++h)
    add_heads<1, Keys>(queries + h * a.head_dim, weights + h, a.head_dim, keys, score0, score1);
}

// Takes the first n scores that may still matter; lane 0 is at `position`.
HWY_INLINE void take(Floats scores, int64_t position, int64_t n, Candidates& c) {
  if (n <= 0) return;
  const FloatTag d;
  auto mask = hn::FirstN(d, static_cast<size_t>(n));
  // Highway's Ne is an ordered comparison: false for NaN.
  if (!hn::AllFalse(d, hn::And(mask, hn::Not(hn::Eq(scores, scores))))) c.has_nan = true;
  if (c.selective) mask = hn::And(mask, hn::Gt(scores, hn::Set(d, c.threshold)));
  if (hn::AllFalse(d, mask)) return;
  const IntTag di;
  const auto positions = hn::Iota(di, static_cast<int32_t>(position));
  hn::StoreU(hn::Compress(scores, mask), d, c.scores + c.count);
  hn::StoreU(hn::Compress(positions, hn::RebindMask(di, mask)), di, c.positions + c.count);
  c.count += static_cast<int64_t>(hn::CountTrue(d, mask));
}

// FILL: forgets the candidates from `first` on that Fix(t) holds anyway.
void drop_fixed(const IndexSelectArgs& a, int64_t t, int64_t first, Candidates& c) {
  const FixedSet fixed(a.pattern, t);
  int64_t kept = first;
  for (int64_t i = first; i < c.count; ++i) {
    if (fixed.contains(c.positions[i])) continue;
    c.scores[kept] = c.scores[i];
    c.positions[kept++] = c.positions[i];
  }
  c.count = kept;
}

template <class Keys>
HWY_NOINLINE void scan_row(const IndexSelectArgs& a, int64_t row, int64_t t, const KeyTile& tile,
                           Candidates& c) {
  if (tile.position[0] > t) return;
  Floats scores[2][kVectorsPerHalf];
  for (size_t v = 0; v < kVectorsPerHalf; ++v)
    score_keys<Keys>(a, row, tile, v * kLanes, scores[0][v], scores[1][v]);
  const int64_t first = c.count;
  for (int g = 0; g < 2; ++g) {
    const int64_t n = HWY_MIN(tile.size[g], t + 1 - tile.position[g]);
    for (size_t v = 0; v < kVectorsPerHalf; ++v) {
      const int64_t lane = static_cast<int64_t>(v * kLanes);
      take(scores[g][v], tile.position[g] + lane, HWY_MIN(n - lane, static_cast<int64_t>(kLanes)), c);
    }
  }
  if (c.count == first) return;
  if (a.pattern.active() && a.pattern.mode == FixedPattern::Mode::fill) drop_fixed(a, t, first, c);
  if (c.full()) shrink(c);
}

HWY_INLINE KeyTile find_tile(const ScanArgs& scan, const IndexKeyLayout& layout, int64_t index) {
  const CachePages& cache = scan.args->keys;
  const int64_t last = scan.block.first_t + scan.block.num_rows - 1;
  KeyTile tile;
  for (int g = 0; g < 2; ++g) {
    const int64_t group = 2 * index + g, page = group / layout.groups_per_page;
    const int64_t offset = group % layout.groups_per_page * kKeyGroup;
    tile.position[g] = page * cache.page_size + offset;
    tile.size[g] = HWY_MIN(kKeyGroup, cache.page_size - offset);
    if (tile.position[g] > last) {  // beyond the page table: the first group again, all of it ignored
      tile.group[g] = tile.group[0];
      tile.size[g] = 0;
    } else {
      tile.group[g] = layout.group(scan.block.sequence->page_table[page], offset / kKeyGroup);
    }
  }
  return tile;
}

void scan_tiles(const ScanArgs& scan) {
  const IndexKeyLayout layout(scan.args->keys);
  const bool bf16 = scan.args->keys.format == RowFormat::bf16;
  const bool widen = bf16 && scan.block.num_rows > 2;  // else widening in registers is cheaper
  const int64_t count = scan.args->head_dim * kKeyGroup;
  KeyTile next = find_tile(scan, layout, scan.tile_begin);
  for (int64_t index = scan.tile_begin; index < scan.tile_end; ++index) {
    KeyTile tile = next;
    if (index + 1 < scan.tile_end) next = find_tile(scan, layout, index + 1);
    for (int g = 0; g < 2; ++g) {
      tile.next[g] = static_cast<const std::byte*>(next.group[g]);
      if (!widen) continue;
      widen_bf16(static_cast<const uint16_t*>(tile.group[g]), static_cast<size_t>(count),
                 scan.keys + g * count);
      tile.group[g] = scan.keys + g * count;
    }
    for (int64_t r = 0; r < scan.block.num_rows; ++r) {
      const auto scan_keys = bf16 && !widen ? scan_row<StoredBf16> : scan_row<WideKeys>;
      scan_keys(*scan.args, scan.block.row_begin + r, scan.block.first_t + r, tile, scan.candidates[r]);
    }
  }
  for (int64_t r = 0; r < scan.block.num_rows; ++r) shrink(scan.candidates[r]);
}

}  // namespace HWY_NAMESPACE
}  // namespace indexshare
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace indexshare {

HWY_EXPORT(scan_tiles);
HWY_EXPORT(merge_candidates);

namespace {

constexpr int64_t kWorthAThread = 1'000'000;           // multiply-adds
constexpr int64_t kCandidateBytes = int64_t{4} << 20;  // of a row block, so that it stays in the second cache

bool needs_scores(const IndexSelectArgs& args, int64_t t) { return args.topk > 0 && t + 1 > args.topk; }

int64_t num_tiles(const CachePages& cache, int64_t t) {
  const int64_t groups_per_page = (cache.page_size + kKeyGroup - 1) / kKeyGroup;
  const int64_t groups = t / cache.page_size * groups_per_page + t % cache.page_size / kKeyGroup + 1;
  return (groups + 1) / 2;
}

std::vector<RowBlock> row_blocks(const IndexSelectArgs& args) {
  const int64_t candidate_bytes = Candidates::capacity_for(args.topk) * 8;
  const int64_t size = std::clamp<int64_t>(kCandidateBytes / candidate_bytes, 1, kMaxBlockRows);
  std::vector<RowBlock> blocks;
  for (const SequenceRows& s : args.sequences) {
    int64_t row = s.row_begin;
    while (row < s.row_end && !needs_scores(args, s.first_position + row - s.row_begin)) ++row;
    for (; row < s.row_end; row += size) {
      const int64_t rows = std::min(size, s.row_end - row), t = s.first_position + row - s.row_begin;
      blocks.push_back({&s, row, rows, t, num_tiles(args.keys, t + rows - 1)});
    }
  }
  return blocks;
}

// Writes a row's set: the candidates (ascending) merged with Fix(t), or every position where topk covers them
// all.
void emit_row(const IndexSelectArgs& args, int64_t row, int64_t t, const Candidates* best,
              std::vector<int32_t>& fixed) {
  int32_t* out = args.positions + row * args.width;
  int64_t count = 0;
  const bool rejected = best && best->has_nan;
  fixed.clear();
  if (args.topk > 0 && !best) {
    for (int64_t s = 0; s <= t; ++s) fixed.push_back(static_cast<int32_t>(s));
  } else if (!rejected && args.pattern.active()) {
    FixedSet(args.pattern, t).append_to(fixed);
  }
  const int64_t num_fixed = static_cast<int64_t>(fixed.size()),
                num_best = best && !rejected ? best->count : 0;
  for (int64_t f = 0, b = 0; f < num_fixed || b < num_best;) {
    ENSURE(count < args.width, "more than {} positions selected at {}", args.width, t);
    const int32_t from_fixed =
        f < num_fixed ? fixed[static_cast<size_t>(f)] : std::numeric_limits<int32_t>::max();
    const int32_t from_best = b < num_best ? best->positions[b] : std::numeric_limits<int32_t>::max();
    out[count++] = std::min(from_fixed, from_best);
    f += from_fixed <= from_best;
    b += from_best <= from_fixed;
  }
  std::fill(out + count, out + args.width, -1);
  args.counts[row] = rejected ? -1 : static_cast<int32_t>(count);
}

/// A piece of a row block that one share scanned when others scanned the rest.
struct Part {
  int64_t block = -1;  // -1: unused
  Candidates* rows = nullptr;
};

// Memory of one share: three sets of candidates (a whole block's, those of the part the share begins with and
// of the part it ends with), the widened keys and the working memory of cuts.
class ShareMemory {
 public:
  ShareMemory(const IndexSelectArgs& args, int64_t block_rows)
      : topk_(args.topk),
        rows_(block_rows),
        capacity_(Candidates::capacity_for(args.topk)),
        keys_(args.head_dim * kTileKeys) {}

  size_t bytes() const {
    const int64_t words = keys_ + capacity_ + 3 * rows_ * 2 * capacity_;
    return (static_cast<size_t>(words) * 4 + sizeof(Candidates) * static_cast<size_t>(3 * rows_) + 63) / 64 *
           64;
  }
  void use(std::byte* memory) { memory_ = memory; }

  float* keys() const { return reinterpret_cast<float*>(memory_); }
  Candidates* empty_set(int64_t index) const {
    auto* order = reinterpret_cast<int32_t*>(keys() + keys_);
    float* buffers = keys() + keys_ + capacity_;
    auto* set = reinterpret_cast<Candidates*>(buffers + 3 * rows_ * 2 * capacity_) + index * rows_;
    for (int64_t r = 0; r < rows_; ++r) {
      float* scores = buffers + (index * rows_ + r) * 2 * capacity_;
      new (set + r) Candidates{
          scores, reinterpret_cast<int32_t*>(scores + capacity_), order, capacity_, topk_, 0, 0, false,
          false};
    }
    return set;
  }

 private:
  int64_t topk_, rows_, capacity_, keys_;
  std::byte* memory_ = nullptr;
};

}  // namespace

/// One call of index_select: what its shares have in common.
struct Selection {
  const IndexSelectArgs& args;
  std::vector<RowBlock> blocks;
  int64_t total;  // tiles x rows
  size_t table_index;
  std::vector<Part> parts;  // [2 * shares] first and last of each share: in ascending tiles

  // Tiles x rows [low, high) of the list of all blocks.
  void scan(int64_t share, int64_t low, int64_t high, const ShareMemory& memory);
  // Joins the parts of the blocks that were cut.
  void join();
};

void Selection::scan(int64_t share, int64_t low, int64_t high, const ShareMemory& memory) {
  std::vector<int32_t> fixed;
  int64_t start = 0;
  for (size_t index = 0; index < blocks.size(); ++index) {
    const RowBlock& b = blocks[index];
    const auto first_tile = [&](int64_t at) {
      return at <= start ? 0 : std::min((at - start + b.num_rows - 1) / b.num_rows, b.num_tiles);
    };
    const int64_t begin = first_tile(low), end = first_tile(high);
    start += b.num_tiles * b.num_rows;
    if (begin >= end) continue;
    const bool whole = begin == 0 && end == b.num_tiles;
    Candidates* rows = memory.empty_set(whole ? 0 : begin > 0 ? 1 : 2);
    HWY_DISPATCH_TABLE(scan_tiles)[table_index]({&args, b, begin, end, rows, memory.keys()});
    if (!whole) {
      parts[static_cast<size_t>(2 * share + (begin > 0 ? 0 : 1))] = {static_cast<int64_t>(index), rows};
      continue;
    }
    for (int64_t r = 0; r < b.num_rows; ++r) emit_row(args, b.row_begin + r, b.first_t + r, rows + r, fixed);
  }
}

void Selection::join() {
  std::vector<int32_t> fixed;
  for (size_t first = 0; first < parts.size(); ++first) {
    if (parts[first].block < 0) continue;
    const RowBlock& b = blocks[static_cast<size_t>(parts[first].block)];
    Candidates* rows = parts[first].rows;
    for (size_t p = first + 1; p < parts.size(); ++p) {
      if (parts[p].block != parts[first].block) continue;
      for (int64_t r = 0; r < b.num_rows; ++r)
        HWY_DISPATCH_TABLE(merge_candidates)[table_index](rows[r], parts[p].rows[r]);
      parts[p].block = -1;
    }
    for (int64_t r = 0; r < b.num_rows; ++r) emit_row(args, b.row_begin + r, b.first_t + r, rows + r, fixed);
  }
}

void CpuBackend::index_select(const IndexSelectArgs& args) {
  ENSURE(args.topk > 0 || args.pattern.active(), "index_select: neither top-k nor a fixed pattern");
  ENSURE(args.topk == 0 || (args.keys.row_dim == args.head_dim && args.keys.page_size > 0),
         "index_select: keys of {} in pages of {}, head_dim {}", args.keys.row_dim, args.keys.page_size,
         args.head_dim);
  std::vector<int32_t> fixed;
  for (const SequenceRows& s : args.sequences)
    for (int64_t row = s.row_begin; row < s.row_end; ++row) {
      const int64_t t = s.first_position + row - s.row_begin;
      if (!needs_scores(args, t)) emit_row(args, row, t, nullptr, fixed);
    }
  Selection selection{args, row_blocks(args), 0, path_.table_index, {}};
  if (selection.blocks.empty()) return;
  int64_t block_rows = 1;
  for (const RowBlock& b : selection.blocks) {
    selection.total += b.num_tiles * b.num_rows;
    block_rows = std::max(block_rows, b.num_rows);
  }
  const int64_t cost = selection.total * kTileKeys * args.num_heads * args.head_dim;
  const int64_t shares = std::clamp<int64_t>(cost / kWorthAThread, 1, pool_.size());
  selection.parts.resize(static_cast<size_t>(2 * shares));
  ShareMemory share_memory(args, block_rows);
  std::byte* memory = scratch_.bytes(share_memory.bytes() * static_cast<size_t>(shares));
  parallel(shares, 1, [&](int64_t begin, int64_t end, int) {
    ShareMemory mine = share_memory;
    for (int64_t share = begin; share < end; ++share) {
      mine.use(memory + share_memory.bytes() * static_cast<size_t>(share));
      selection.scan(share, selection.total * share / shares, selection.total * (share + 1) / shares, mine);
    }
  });
  selection.join();
}

}  // namespace indexshare
#endif
