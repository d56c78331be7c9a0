// SPDX-License-Identifier: Apache-2.0
#include "text/added_tokens.h"

#include <algorithm>

#include "base/check.h"
#include "text/unicode.h"

namespace indexshare {

namespace {

constexpr size_t kMaxAddedTokens = 100'000;
constexpr size_t kMaxContentBytes = 1024;
constexpr size_t kMaxTotalBytes = 4'000'000;  // a trie node each at worst

}  // namespace

std::vector<AddedToken> read_added_tokens(const JsonObject& tokenizer) {
  std::vector<AddedToken> tokens;
  const Json* array = tokenizer.optional_array("added_tokens");
  if (!array) return tokens;
  size_t total_bytes = 0;
  if (array->size() > kMaxAddedTokens)
    tokenizer.reject("added_tokens", fmt::format("at most {}", kMaxAddedTokens));
  for (const Json& element : *array) {
    const JsonObject object(element, tokenizer.what(), fmt::format("added_tokens[{}]", tokens.size()));
    AddedToken token;
    token.id = static_cast<int32_t>(object.required_int("id", 0, INT32_MAX));
    token.content = object.required_string("content");
    if (token.content.empty() || token.content.size() > kMaxContentBytes)
      object.reject("content", fmt::format("1 to {} bytes", kMaxContentBytes));
    if ((total_bytes += token.content.size()) > kMaxTotalBytes)
      tokenizer.reject("added_tokens", fmt::format("at most {} bytes of content", kMaxTotalBytes));
    token.special = object.optional_bool("special").value_or(false);
    token.normalized = object.optional_bool("normalized").value_or(!token.special);
    token.single_word = object.optional_bool("single_word").value_or(false);
    token.lstrip = object.optional_bool("lstrip").value_or(false);
    token.rstrip = object.optional_bool("rstrip").value_or(false);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    insert(tokens_[i].normalized ? normalized_ : raw_, static_cast<int32_t>(i));
    if (tokens_[i].single_word && !word_) word_.emplace(R"([\w\p{Join_Control}])", "added_tokens");
  }
}

void AddedTokens::insert(Trie& trie, int32_t index) {
  const std::string& content = tokens_[index].content;
  trie.begins[static_cast<unsigned char>(content[0])] = 1;
  uint32_t node = 0;
  for (char c : content) {
    const uint64_t edge = (uint64_t{node} << 8) | static_cast<unsigned char>(c);
    const auto [child, added] = trie.children.try_emplace(edge, static_cast<uint32_t>(trie.token_at.size()));
    if (added) trie.token_at.push_back(-1);
    node = child->second;
  }
  trie.token_at[node] = index;
}

int32_t AddedTokens::longest(const Trie& trie, std::string_view text) const {
  int32_t found = -1;
  uint32_t node = 0;
  for (char c : text) {
    const auto child = trie.children.find((uint64_t{node} << 8) | static_cast<unsigned char>(c));
    if (child == trie.children.end()) break;
    node = child->second;
    if (trie.token_at[node] >= 0) found = trie.token_at[node];
  }
  return found;
}

bool AddedTokens::touches_word(std::string_view text, size_t begin, size_t end, RegexScratch& scratch) const {
  if (begin > 0) {
    size_t before = begin - 1;
    while (before > 0 && (static_cast<unsigned char>(text[before]) & 0xc0) == 0x80) --before;
    if (word_->find(text.substr(before, begin - before), 0, scratch)) return true;
  }
  if (end == text.size()) return false;
  const std::string_view behind = text.substr(end, utf8_step(text.substr(end)).length);
  return word_->find(behind, 0, scratch).has_value();
}

void AddedTokens::cut(const Trie& trie, std::string_view text, Span span, std::span<const Span> allowed,
                      RegexScratch& scratch, std::vector<Piece>& pieces) const {
  const std::string_view inside = text.substr(0, span.end);
  size_t done = span.begin;
  const auto first = std::partition_point(allowed.begin(), allowed.end(),
                                          [&](const Span& zone) { return zone.end <= span.begin; });
  for (auto zone = first; zone != allowed.end() && zone->begin < span.end; ++zone) {
    const size_t zone_end = std::min(zone->end, span.end);
    for (size_t at = std::max(zone->begin, done); at < zone_end;) {
      const int32_t index = trie.begins[static_cast<unsigned char>(text[at])]
                                ? longest(trie, text.substr(at, zone_end - at))
                                : -1;
      if (index < 0) {
        ++at;
        continue;
      }
      const AddedToken& token = tokens_[index];
      size_t begin = at, end = at + token.content.size();
      at = end;
      const std::string_view own = inside.substr(span.begin);
      if (token.single_word && touches_word(own, begin - span.begin, end - span.begin, scratch)) continue;
      if (token.lstrip) begin = std::max(done, trim_end(text.substr(0, begin)).size());
      if (token.rstrip) end = span.end - trim_start(inside.substr(end)).size();
      begin = std::max(begin, done);
      if (begin > done) pieces.push_back({done, begin, -1});
      pieces.push_back({begin, end, token.id});
      done = at = std::max(at, end);
    }
  }
  if (done < span.end) pieces.push_back({done, span.end, -1});
}

std::vector<AddedTokens::Piece> AddedTokens::split(std::string_view text, std::span<const Span> allowed,
                                                   RegexScratch& scratch) const {
  std::vector<Piece> raw, pieces;
  cut(raw_, text, {0, text.size()}, allowed, scratch, raw);
  if (normalized_.token_at.size() == 1) return raw;
  for (const Piece& piece : raw) {
    if (piece.id >= 0) {
      pieces.push_back(piece);
    } else {
      cut(normalized_, text, {piece.begin, piece.end}, allowed, scratch, pieces);
    }
  }
  return pieces;
}

}  // namespace indexshare
