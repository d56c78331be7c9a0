// SPDX-License-Identifier: Apache-2.0
#include "text/byte_pair_model.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "text/byte_alphabet.h"

namespace indexshare {

namespace {

constexpr size_t kFewSymbols = 40;  // up to here scanning all pairs is faster than a heap
constexpr int32_t kJoined = -2;
constexpr uint32_t kNoRank = ~uint32_t{0};

uint64_t pair_key(int32_t left, int32_t right) {
  return (uint64_t{static_cast<uint32_t>(left)} << 32) | static_cast<uint32_t>(right);
}

// "a b" or ["a", "b"].
std::pair<std::string_view, std::string_view> read_merge(const Json& merge, const JsonObject& model,
                                                         size_t index) {
  if (merge.is_string()) {
    const std::string_view text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != text.npos && text.find(' ', space + 1) == text.npos)
      return {text.substr(0, space), text.substr(space + 1)};
  } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return {merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>()};
  }
  fail(ErrorCode::unsupported, "{}: {}[{}]: expected two pieces, found {}", model.what(),
       model.path_of("merges"), index, describe_json(merge));
}

}  // namespace

void MergeTable::reserve(size_t count) {
  entries_.assign(std::bit_ceil(std::max<size_t>(count, 4) * 2), Entry{});
}

size_t MergeTable::slot_of(uint64_t key) const {
  size_t slot = (key * 0x9e3779b97f4a7c15u) >> (64 - std::countr_zero(entries_.size()));
  while (entries_[slot].key != kEmpty && entries_[slot].key != key) slot = (slot + 1) & (entries_.size() - 1);
  return slot;
}

void MergeTable::insert(int32_t left, int32_t right, Merge merge) {
  const uint64_t key = pair_key(left, right);
  entries_[slot_of(key)] = {key, merge};
}

const MergeTable::Merge* MergeTable::find(int32_t left, int32_t right) const {
  const Entry& entry = entries_[slot_of(pair_key(left, right))];
  return entry.key == kEmpty ? nullptr : &entry.merge;
}

BytePairModel::BytePairModel(const JsonObject& model, const Vocabulary& spellings,
                             const std::vector<uint8_t>& is_special)
    : is_special_(is_special) {
  read_options(model, spellings);
  read_merges(model, spellings, is_special);
  for (int byte = 0; byte < 256; ++byte) {
    const auto found = spellings.find(spelling_of_bytes(std::string(1, static_cast<char>(byte))));
    byte_ids_[byte] = found == spellings.end() ? -1 : found->second;
  }
  if (!ignore_merges_) return;
  for (const auto& [spelling, id] : spellings)
    if (auto bytes = bytes_of_spelling(spelling)) words_.emplace(std::move(*bytes), id);
}

void BytePairModel::read_options(const JsonObject& model, const Vocabulary& spellings) {
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!model.optional_string(key).value_or("").empty())
      model.reject(key, "none, as byte-level models have");
  if (model.optional_bool("byte_fallback").value_or(false))
    model.reject("byte_fallback", "false, as byte-level models have");
  if (model.optional_double("dropout").value_or(0) != 0) model.reject("dropout", "null or 0");
  ignore_merges_ = model.optional_bool("ignore_merges").value_or(false);
  fuse_unknown_ = model.optional_bool("fuse_unk").value_or(false);
  if (const auto unknown = model.optional_string("unk_token")) {
    const auto found = spellings.find(*unknown);
    if (found == spellings.end()) model.reject("unk_token", "a piece of the vocabulary");
    unknown_id_ = found->second;
  }
}

void BytePairModel::read_merges(const JsonObject& model, const Vocabulary& spellings,
                                const std::vector<uint8_t>& is_special) {
  const Json& merges = model.required_array("merges");
  merges_.reserve(merges.size());
  text_merges_.reserve(merges.size());
  size_t index = 0;
  const auto id_of = [&](std::string_view piece) {
    const auto found = spellings.find(piece);
    if (found == spellings.end())
      fail(ErrorCode::unsupported, "{}: {}[{}]: expected pieces of the vocabulary, found {}", model.what(),
           model.path_of("merges"), index, describe_json(Json(std::string(piece))));
    return found->second;
  };
  for (const Json& merge : merges) {
    const auto [left, right] = read_merge(merge, model, index);
    const int32_t left_id = id_of(left), right_id = id_of(right);
    const int32_t joined_id = id_of(std::string(left).append(right));
    const MergeTable::Merge entry{static_cast<uint32_t>(index), joined_id};
    merges_.insert(left_id, right_id, entry);
    if (is_special[joined_id]) {
      merges_make_special_ = true;
    } else {
      text_merges_.insert(left_id, right_id, entry);
    }
    ++index;
  }
}

void BytePairModel::start(std::string_view word, std::vector<int32_t>& ids) const {
  ids.clear();
  bool after_unknown = false;
  for (char c : word) {
    const int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    const bool unknown = id < 0;
    if (!unknown) {
      ids.push_back(id);
    } else if (unknown_id_ >= 0 && !(fuse_unknown_ && after_unknown)) {
      ids.push_back(unknown_id_);
    }
    after_unknown = unknown;
  }
}

void BytePairModel::encode(std::string_view word, bool allow_special, Scratch& scratch,
                           std::vector<int32_t>& out) const {
  if (ignore_merges_) {
    const auto found = words_.find(word);
    if (found != words_.end() && (allow_special || !is_special_[found->second]))
      return out.push_back(found->second);
  }
  const MergeTable& merges = merges_make_special_ && !allow_special ? text_merges_ : merges_;
  start(word, scratch.ids);
  if (scratch.ids.size() > kFewSymbols) {
    join_many(merges, scratch);
  } else {
    join_few(merges, scratch);
  }
  out.insert(out.end(), scratch.ids.begin(), scratch.ids.end());
}

void BytePairModel::join_few(const MergeTable& merges, Scratch& scratch) {
  auto& ids = scratch.ids;
  auto& candidates = scratch.merges;  // candidates[i] joins ids[i] and ids[i + 1]
  const auto candidate = [&](size_t i) {
    const auto* merge = merges.find(ids[i], ids[i + 1]);
    return merge ? *merge : MergeTable::Merge{kNoRank, -1};
  };
  candidates.clear();
  for (size_t i = 0; i + 1 < ids.size(); ++i) candidates.push_back(candidate(i));
  while (!candidates.empty()) {
    const auto best = std::min_element(candidates.begin(), candidates.end(),
                                       [](const auto& a, const auto& b) { return a.rank < b.rank; });
    if (best->rank == kNoRank) return;
    const size_t i = best - candidates.begin();
    ids[i] = best->id;
    ids.erase(ids.begin() + i + 1);
    candidates.erase(best);
    if (i < candidates.size()) candidates[i] = candidate(i);
    if (i > 0) candidates[i - 1] = candidate(i - 1);
  }
}

void BytePairModel::join_many(const MergeTable& merges, Scratch& scratch) {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  const auto count = static_cast<int32_t>(scratch.ids.size());
  symbols.clear();
  heap.clear();
  for (int32_t i = 0; i < count; ++i) symbols.push_back({scratch.ids[i], i - 1, i + 1 < count ? i + 1 : -1});
  const auto merge_at = [&](int32_t i) -> const MergeTable::Merge* {
    if (i < 0 || symbols[i].next < 0) return nullptr;
    return merges.find(symbols[i].id, symbols[symbols[i].next].id);
  };
  for (int32_t i = 0; i < count; ++i)
    if (const auto* merge = merge_at(i)) heap.push_back({merge->rank, i, merge->id});
  std::make_heap(heap.begin(), heap.end());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end());
    const Scratch::Candidate best = heap.back();
    heap.pop_back();
    const auto* current = merge_at(best.position);
    if (!current || current->id != best.id)
      continue;  // one of the two has been joined to something else since
    Scratch::Symbol& left = symbols[best.position];
    Scratch::Symbol& right = symbols[left.next];
    left.id = best.id;
    left.next = right.next;
    right.next = kJoined;
    if (left.next >= 0) symbols[left.next].previous = best.position;
    for (const int32_t i : {left.previous, best.position})
      if (const auto* merge = merge_at(i)) {
        heap.push_back({merge->rank, i, merge->id});
        std::push_heap(heap.begin(), heap.end());
      }
  }
  scratch.ids.clear();
  for (int32_t i = 0; i >= 0 && i < count; i = symbols[i].next) scratch.ids.push_back(symbols[i].id);
}

}  // namespace indexshare
