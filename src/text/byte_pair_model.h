// SPDX-License-Identifier: Apache-2.0
// Byte pair encoding of one word: start from its bytes, join the adjacent pair of lowest rank (the leftmost
// among equals) until no pair has a rank.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"

namespace indexshare {

struct StringHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
using Vocabulary = std::unordered_map<std::string, int32_t, StringHash, std::equal_to<>>;

/// (left id, right id) -> (rank, id of both joined): open addressing, read-only once built.
class MergeTable {
 public:
  struct Merge {
    uint32_t rank;
    int32_t id;
  };

  void reserve(size_t count);
  /// A pair given twice keeps the later merge.
  void insert(int32_t left, int32_t right, Merge merge);
  /// nullptr where the pair does not join.
  const Merge* find(int32_t left, int32_t right) const;

 private:
  struct Entry {
    uint64_t key = kEmpty;
    Merge merge{};
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  size_t slot_of(uint64_t key) const;

  std::vector<Entry> entries_;
};

class BytePairModel {
 public:
  /// Memory of one thread, reused from word to word.
  struct Scratch {
    struct Symbol {
      int32_t id;
      int32_t previous,
          next;  // index, -1 at the ends; next = kJoined once this symbol is part of its predecessor
    };
    struct Candidate {
      uint32_t rank;
      int32_t position;
      int32_t id;
      bool operator<(const Candidate& other) const {  // std heaps keep the largest on top
        return rank != other.rank ? rank > other.rank : position > other.position;
      }
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
    std::vector<int32_t> ids;
    std::vector<MergeTable::Merge> merges;
  };

  /// `model` is the object "model" of a tokenizer.json; `is_special[id]` the added tokens no user text may
  /// become. Throws Error{unsupported}.
  BytePairModel(const JsonObject& model, const Vocabulary& spellings, const std::vector<uint8_t>& is_special);

  /// Appends the ids of `word`. With `allow_special` false no merge makes a special token.
  void encode(std::string_view word, bool allow_special, Scratch& scratch, std::vector<int32_t>& out) const;

 private:
  void read_options(const JsonObject& model, const Vocabulary& spellings);
  void read_merges(const JsonObject& model, const Vocabulary& spellings,
                   const std::vector<uint8_t>& is_special);
  void start(std::string_view word, std::vector<int32_t>& ids) const;
  static void join_few(const MergeTable& merges, Scratch& scratch);
  static void join_many(const MergeTable& merges, Scratch& scratch);

  std::array<int32_t, 256> byte_ids_{};  // -1 where the vocabulary lacks the byte
  int32_t unknown_id_ = -1;              // -1: unknown bytes are dropped, as tokenizers does
  bool fuse_unknown_ = false;
  bool ignore_merges_ = false;
  std::unordered_map<std::string, int32_t, StringHash, std::equal_to<>>
      words_;  // by bytes, if ignore_merges_
  std::vector<uint8_t> is_special_;
  MergeTable merges_;
  MergeTable text_merges_;  // merges_ without those that make special tokens
  bool merges_make_special_ = false;
};

}  // namespace indexshare
