// SPDX-License-Identifier: Apache-2.0
// Added tokens: strings such as <|user|> that are cut out of a text before anything else looks at it.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"
#include "text/regex.h"

namespace indexshare {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;   // looked for in the normalized text, that is, behind all that are not
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // swallows the white space before it
  bool rstrip = false;       // swallows the white space behind it
};

/// Reads the array "added_tokens" of a tokenizer.json. Throws Error{unsupported}.
std::vector<AddedToken> read_added_tokens(const JsonObject& tokenizer);

class AddedTokens {
 public:
  struct Span {
    size_t begin, end;
  };
  struct Piece {
    size_t begin, end;
    int32_t id;  // -1: ordinary text
  };

  explicit AddedTokens(std::vector<AddedToken> tokens);

  /// Cuts `text` at the added tokens that lie inside one of `allowed` (ascending, disjoint): leftmost first,
  /// the longest among those that begin together.
  std::vector<Piece> split(std::string_view text, std::span<const Span> allowed, RegexScratch& scratch) const;

 private:
  // A trie over bytes. Tokens with and without `normalized` have one each, searched one after the other.
  struct Trie {
    std::unordered_map<uint64_t, uint32_t> children;  // node << 8 | byte -> node
    std::vector<int32_t> token_at{-1};                // per node an index into tokens_
    std::vector<uint8_t> begins = std::vector<uint8_t>(256, 0);
  };

  void insert(Trie& trie, int32_t index);
  int32_t longest(const Trie& trie, std::string_view text) const;
  bool touches_word(std::string_view text, size_t begin, size_t end, RegexScratch& scratch) const;
  void cut(const Trie& trie, std::string_view text, Span span, std::span<const Span> allowed,
           RegexScratch& scratch, std::vector<Piece>& pieces) const;

  std::vector<AddedToken> tokens_;
  Trie raw_, normalized_;
  std::optional<Regex> word_;  // one word character; only where a token asks
};

}  // namespace indexshare
