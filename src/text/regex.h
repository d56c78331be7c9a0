// SPDX-License-Identifier: Apache-2.0
// Regular expressions from a tokenizer.json, on PCRE2 with its JIT. They are written for Oniguruma and come
// from a file nobody vouches for: what the two engines read differently is translated or refused, and steps
// are limited.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace indexshare {

/// Memory one thread needs while matching; reused from match to match, with any Regex.
class RegexScratch {
 public:
  RegexScratch();
  ~RegexScratch();
  RegexScratch(const RegexScratch&) = delete;
  RegexScratch& operator=(const RegexScratch&) = delete;

 private:
  friend class Regex;
  struct State;
  std::unique_ptr<State> state_;
};

class Regex {
 public:
  struct Match {
    size_t begin, end;
  };

  /// Throws Error{unsupported} beginning with `where` for a pattern that is invalid, longer than 16 KiB, uses
  /// what the engines disagree on (\C, callouts, verbs, nested classes...) or explodes on a short text.
  Regex(std::string_view pattern, std::string where);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  /// The first match that begins at or behind `start` of `text`, which must be valid UTF-8. Throws
  /// Error{unsupported} when the step limit is reached.
  std::optional<Match> find(std::string_view text, size_t start, RegexScratch& scratch) const;

 private:
  Regex(const std::string& translated, const std::string& where, uint32_t options);
  void probe() const;

  struct State;
  std::unique_ptr<State> state_;
};

/// A pattern that matches exactly `text`.
std::string escape_pattern(std::string_view text);

}  // namespace indexshare
