// SPDX-License-Identifier: Apache-2.0
#include "text/regex_dialect.h"

#include <algorithm>

#include "base/check.h"

namespace indexshare {

namespace {

constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";
constexpr std::string_view kHex = "0-9A-Fa-f";

class Translator {
 public:
  Translator(std::string_view pattern, std::string_view where) : pattern_(pattern), where_(where) {}

  std::string run() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        class_character(c);
      } else {
        character(c);
      }
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view construct) const {
    fail(ErrorCode::unsupported, "{}: the regular expression uses {} at byte {}, which is not supported",
         where_, construct, at_);
  }

  char peek(size_t ahead) const { return at_ + ahead < pattern_.size() ? pattern_[at_ + ahead] : '\0'; }

  void copy(size_t count = 1) {
    out_ += pattern_.substr(at_, count);
    at_ += count;
  }

  void replace(std::string_view text) {
    out_ += text;
    at_ += 2;
  }

  // A set of characters, bare inside a class and bracketed outside of it.
  void replace_by_set(std::string_view members, bool negated) {
    if (in_class_ && negated) refuse("a negated escape inside a class");
    out_ += in_class_ ? "" : negated ? "[^" : "[";
    out_ += members;
    if (!in_class_) out_ += ']';
    at_ += 2;
  }

  void escape() {
    switch (peek(1)) {
      case 's':
        return replace(R"(\p{White_Space})");  // PCRE2's own \s has U+180E besides
      case 'S':
        return replace(R"(\P{White_Space})");
      case 'w':
        return replace_by_set(kWord, false);
      case 'W':
        return replace_by_set(kWord, true);
      case 'h':
        return replace_by_set(kHex, false);
      case 'H':
        return replace_by_set(kHex, true);
      case 'u':
        out_ += fmt::format("\\x{{{}}}", pattern_.substr(std::min(at_ + 2, pattern_.size()), 4));
        at_ = std::min(at_ + 6, pattern_.size());
        return;
      case 'C':
        refuse("\\C");
      case 'Q':
      case 'E':
        refuse("\\Q or \\E");
      case 'K':
        refuse("\\K");
      case 'g':
        refuse("\\g");
      default:
        break;
    }
    const size_t close = peek(2) == '{' ? pattern_.find('}', at_) : pattern_.npos;  // \p{L}, \x{41}
    copy(close == pattern_.npos ? std::min<size_t>(2, pattern_.size() - at_) : close + 1 - at_);
  }

  void class_character(char c) {
    if (c == '[' && peek(1) == ':') {
      const size_t end = pattern_.find(":]", at_ + 2);
      if (end == pattern_.npos) refuse("an unfinished [: :]");
      return copy(end + 2 - at_);
    }
    if (c == '[') refuse("a nested class");
    if (c == '&' && peek(1) == '&') refuse("&& inside a class");
    if (c == ']') in_class_ = false;
    copy();
  }

  void character(char c) {
    if (c == '[') {
      in_class_ = true;
      copy(peek(1) == '^' ? 2 : 1);
      if (peek(0) == ']') copy();  // first in a class it stands for itself
      return;
    }
    if (c == '(' && peek(1) == '*') refuse("a (*VERB)");
    if (c == '(' && peek(1) == '?') {
      const char kind = peek(2);
      if (kind == 'C') refuse("a callout");
      if (kind == '~') refuse("an absent operator");
      if (kind == 'R' || kind == '&' || kind == 'P' || kind == '+' || (kind >= '0' && kind <= '9'))
        refuse("recursion");
    }
    if (c == '}' && peek(1) == '+') refuse("a possessive interval");  // to Oniguruma a repeated repetition
    copy();
  }

  std::string_view pattern_, where_;
  std::string out_;
  size_t at_ = 0;
  bool in_class_ = false;
};

}  // namespace

std::string translate_oniguruma(std::string_view pattern, std::string_view where) {
  return Translator(pattern, where).run();
}

}  // namespace indexshare
