// SPDX-License-Identifier: Apache-2.0
#include "text/template_lexer.h"

#include <array>

#include "base/check.h"
#include "text/unicode.h"

namespace indexshare::chat {

namespace {

bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_name(char c) { return is_name_start(c) || is_digit(c); }

class Lexer {
 public:
  Lexer(std::string source, const std::string& name) : source_(std::move(source)), name_(name) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) {
      const size_t tag = next_tag();
      data(tag);
      if (tag >= source_.size()) break;
      switch (source_[tag + 1]) {
        case '#':
          comment();
          break;
        case '{':
          expression(Token::Kind::output_begin, Token::Kind::output_end, "}}");
          break;
        default:
          if (!raw()) expression(Token::Kind::block_begin, Token::Kind::block_end, "%}");
      }
    }
    push(Token::Kind::end, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void refuse(const std::string& message) const {
    fail(ErrorCode::unsupported, "{}: line {}: {}", name_, line_, message);
  }

  void push(Token::Kind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }
  char peek(size_t ahead = 0) const { return at_ + ahead < source_.size() ? source_[at_ + ahead] : '\0'; }
  std::string_view rest() const { return std::string_view(source_).substr(at_); }

  void advance(size_t count) {
    for (size_t i = 0; i < count; ++i) line_ += source_[at_ + i] == '\n';
    at_ += count;
  }

  size_t next_tag() const {
    for (size_t i = at_; i + 1 < source_.size(); ++i)
      if (source_[i] == '{' && (source_[i + 1] == '%' || source_[i + 1] == '{' || source_[i + 1] == '#'))
        return i;
    return source_.size();
  }

  // The text in front of a tag, shortened as the tag's sign or lstrip_blocks says, then the tag's first
  // characters.
  void data(size_t tag) {
    std::string_view text = std::string_view(source_).substr(at_, tag - at_);
    const bool is_tag = tag < source_.size();
    const char sign = tag + 2 < source_.size() ? source_[tag + 2] : '\0';
    if (is_tag && sign == '-') {
      text = trim_end_python(text);
    } else if (is_tag && sign != '+' && source_[tag + 1] != '{') {
      const size_t line_begin = text.rfind('\n') == text.npos ? 0 : text.rfind('\n') + 1;
      if ((line_begin > 0 || line_starting_) && trim_end_python(text.substr(line_begin)).empty())
        text = text.substr(0, line_begin);
    }
    if (!text.empty()) push(Token::Kind::data, std::string(text));
    advance(tag - at_);
    if (is_tag) advance(sign == '-' || sign == '+' ? 3 : 2);
    line_starting_ = false;
  }

  static std::string_view trim_end_python(std::string_view text) {
    while (true) {
      const std::string_view trimmed = trim_end(text);
      const bool separator = !trimmed.empty() && trimmed.back() >= 0x1c && trimmed.back() <= 0x1f;
      text = separator ? trimmed.substr(0, trimmed.size() - 1) : trimmed;
      if (!separator) return text;
    }
  }

  void skip_space() {
    while (at_ < source_.size()) {
      const Utf8Step step = utf8_step(rest());
      if (!is_white_space(step.code_point) && !(step.code_point >= 0x1c && step.code_point <= 0x1f)) return;
      advance(step.length);
    }
  }

  // Behind "-%}" all white space goes, behind "%}" one newline (trim_blocks), behind "+%}" nothing.
  void finish_tag(char sign, bool trims_newline) {
    const size_t begin = at_;
    if (sign == '-') {
      skip_space();
    } else if (trims_newline && sign != '+' && peek() == '\n') {
      advance(1);
    }
    line_starting_ = at_ > begin && source_[at_ - 1] == '\n';
  }

  void comment() {
    const size_t end = source_.find("#}", at_);
    if (end == std::string::npos) refuse("the comment is never closed");
    const char sign = end > at_ ? source_[end - 1] : '\0';
    advance(end + 2 - at_);
    finish_tag(sign, true);
  }

  // {% raw %} ... {% endraw %}; false where the block is another one.
  bool raw() {
    const size_t begin = at_;
    const auto word_tag =
        [&](std::string_view word) -> char {  // the closing sign, ' ' for none, '\0' for no match
      skip_space();
      if (!rest().starts_with(word)) return '\0';
      advance(word.size());
      skip_space();
      char sign = ' ';
      if (peek() == '-' || peek() == '+') sign = peek();
      if (sign != ' ') advance(1);
      if (!rest().starts_with("%}")) return '\0';
      advance(2);
      return sign;
    };
    const int line = line_;
    const char opened = word_tag("raw");
    if (opened == '\0') {
      at_ = begin;
      line_ = line;
      return false;
    }
    finish_tag(opened, false);
    const size_t text_begin = at_;
    for (size_t tag = source_.find("{%", at_); tag != std::string::npos; tag = source_.find("{%", tag + 2)) {
      advance(tag + 2 - at_);
      const char sign = peek();
      if (sign == '-' || sign == '+') advance(1);
      const char closed = word_tag("endraw");
      if (closed == '\0') continue;
      std::string_view text = std::string_view(source_).substr(text_begin, tag - text_begin);
      if (sign == '-') {
        text = trim_end_python(text);
      } else if (sign != '+') {
        const size_t line_begin = text.rfind('\n') == text.npos ? 0 : text.rfind('\n') + 1;
        if ((line_begin > 0 || line_starting_) && trim_end_python(text.substr(line_begin)).empty())
          text = text.substr(0, line_begin);
      }
      if (!text.empty()) push(Token::Kind::data, std::string(text));
      finish_tag(closed, true);
      return true;
    }
    refuse("the raw block is never closed");
  }

  void expression(Token::Kind begin, Token::Kind end, std::string_view closing) {
    push(begin, "");
    int open = 0;
    while (true) {
      skip_space();
      if (at_ >= source_.size()) refuse("the tag is never closed");
      const char sign = peek() == '-' || (peek() == '+' && closing == "%}") ? peek() : '\0';
      if (open == 0 && rest().substr(sign ? 1 : 0).starts_with(closing)) {
        push(end, "");
        advance(sign ? 3 : 2);
        return finish_tag(sign, closing == "%}");
      }
      token(open);
    }
  }

  void token(int& open) {
    const char c = peek();
    if (is_digit(c)) return number();
    if (is_name_start(c)) {
      size_t length = 1;
      while (is_name(peek(length))) ++length;
      push(Token::Kind::name, std::string(rest().substr(0, length)));
      return advance(length);
    }
    if (c == '"' || c == '\'') return string(c);
    constexpr std::array kOperators = {"==", "!=", "<=", ">=", "//", "**", "+", "-", "*", "/", "%", "~", "<",
                                       ">",  "=",  "(",  ")",  "[",  "]",  "{", "}", ",", ".", ":", "|", ";"};
    for (std::string_view op : kOperators) {
      if (!rest().starts_with(op)) continue;
      if (op == "(" || op == "[" || op == "{") ++open;
      if (op == ")" || op == "]" || op == "}")
        if (--open < 0) refuse(fmt::format("unexpected '{}'", op));
      push(Token::Kind::op, std::string(op));
      return advance(op.size());
    }
    refuse("unexpected character " + shown_character(c));
  }

  static std::string shown_character(char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte > 0x20 && byte < 0x7f ? fmt::format("'{}'", c) : fmt::format("0x{:02x}", byte);
  }

  void number() {
    std::string digits;
    bool real = false;
    if (peek() == '0' && (peek(1) == 'x' || peek(1) == 'X' || peek(1) == 'o' || peek(1) == 'b'))
      refuse("only decimal numbers are supported");
    while (true) {
      const char c = peek();
      if (is_digit(c)) {
        digits += c;
      } else if (c == '.' && !real && is_digit(peek(1))) {
        digits += c;
        real = true;
      } else if ((c == 'e' || c == 'E') && digits.find('e') == digits.npos &&
                 (is_digit(peek(1)) || ((peek(1) == '-' || peek(1) == '+') && is_digit(peek(2))))) {
        digits += 'e';
        if (!is_digit(peek(1))) {
          digits += peek(1);
          advance(1);
        }
        real = true;
      } else if (!(c == '_' && is_digit(peek(1)))) {
        break;
      }
      advance(1);
    }
    push(real ? Token::Kind::real : Token::Kind::integer, digits);
  }

  void string(char mark) {
    const int line = line_;
    std::string out;
    advance(1);
    while (peek() != mark) {
      if (at_ >= source_.size()) refuse("the string is never closed");
      if (peek() == '\\' && at_ + 1 < source_.size()) {
        escape(out);
      } else {
        out += peek();
        advance(1);
      }
    }
    advance(1);
    tokens_.push_back({Token::Kind::string, std::move(out), line});
  }

  void escape(std::string& out) {
    const char c = peek(1);
    constexpr std::string_view kPlain = "\\'\"abfnrtv", kMeaning = "\\'\"\a\b\f\n\r\t\v";
    if (const size_t found = kPlain.find(c); found != kPlain.npos) {
      out += kMeaning[found];
      return advance(2);
    }
    if (c == '\n') return advance(2);
    if (c == 'x' || c == 'u' || c == 'U') return hex_escape(out, c == 'x' ? 2 : c == 'u' ? 4 : 8);
    if (c == 'N') refuse("\\N escapes are not supported");
    if (c >= '0' && c <= '7') {
      char32_t code = 0;
      size_t length = 1;
      for (; length <= 3 && peek(length) >= '0' && peek(length) <= '7'; ++length)
        code = code * 8 + static_cast<char32_t>(peek(length) - '0');
      append_utf8(out, code);
      return advance(length);
    }
    out += '\\';  // an unknown escape stays as it is
    advance(1);
  }

  void hex_escape(std::string& out, int digits) {
    char32_t code = 0;
    for (int i = 0; i < digits; ++i) {
      const char c = peek(2 + i);
      const int digit = is_digit(c)            ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0 || code > 0x10ffff) refuse("a malformed escape in a string");
      code = code * 16 + static_cast<char32_t>(digit);
    }
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) refuse("an escape in a string is no character");
    append_utf8(out, code);
    advance(2 + digits);
  }

  std::string source_;
  const std::string& name_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
};

}  // namespace

std::vector<Token> lex_template(std::string_view source, const std::string& name) {
  std::string normal;  // \r\n and \r become \n
  normal.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      normal += source[i];
    } else if (i + 1 == source.size() || source[i + 1] != '\n') {
      normal += '\n';
    }
  }
  if (normal.ends_with('\n')) normal.pop_back();
  return Lexer(std::move(normal), name).run();
}

}  // namespace indexshare::chat
