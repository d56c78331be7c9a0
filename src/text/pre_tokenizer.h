// SPDX-License-Identifier: Apache-2.0
// The pre_tokenizer of a tokenizer.json: cuts a text into the words that byte pair encoding never joins.
#pragma once

#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/regex.h"

namespace indexshare {

class PreTokenizer {
 public:
  /// Accepts Split, Digits and ByteLevel, alone or as a Sequence that ends with its ByteLevel. Throws
  /// Error{unsupported}.
  PreTokenizer(const Json& description, const std::string& what);

  /// Calls word(view) for each word of `text` (valid UTF-8) in order. A view lives until word returns.
  void split(std::string_view text, RegexScratch& scratch,
             const std::function<void(std::string_view)>& word) const;

 private:
  enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };
  struct Stage {
    std::optional<Regex> pattern;  // none: the text stays whole
    Behavior behavior = Behavior::isolated;
    bool invert = false;
    bool add_prefix_space = false;
  };
  struct Piece {
    size_t begin, end;
    bool matched;
  };

  void add(const JsonObject& object);
  void add_split(const JsonObject& object);
  void add_byte_level(const JsonObject& object);
  static std::vector<Piece> cut(const Stage& stage, std::string_view text, RegexScratch& scratch);
  void run(size_t stage, std::string_view text, RegexScratch& scratch,
           const std::function<void(std::string_view)>& word) const;

  std::vector<Stage> stages_;
  bool has_byte_level_ = false;
};

}  // namespace indexshare
