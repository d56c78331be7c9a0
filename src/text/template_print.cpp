// SPDX-License-Identifier: Apache-2.0
// Values as text: Python's str, repr and json.dumps.
#include <charconv>
#include <cmath>
#include <cwctype>

#include "base/check.h"
#include "text/template_value.h"
#include "text/unicode.h"

namespace indexshare::chat {

using Kind = Value::Kind;

std::string real_to_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string shortest(buffer, end);
  const int exponent = std::stoi(shortest.substr(shortest.find('e') + 1));
  if (exponent < -4 || exponent >= 16) return shortest;
  const auto fixed = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed).ptr;
  std::string text(buffer, fixed);
  return text.find('.') == text.npos ? text + ".0" : text;
}

namespace {

bool printable(char32_t c) {
  if (c < 0x20 || (c >= 0x7f && c < 0xa1) || c == 0xad) return false;
  if (c < 0x300) return true;
  if (is_white_space(c) || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e)) return false;
  if ((c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xe000 && c <= 0xf8ff) || c >= 0xe0000)
    return false;
  return (c & 0xfffe) != 0xfffe;
}

void quote(const MarkedText& text, MarkedText& out) {
  const bool double_quotes =
      text.text.find('\'') != std::string::npos && text.text.find('"') == std::string::npos;
  const char mark = double_quotes ? '"' : '\'';
  out.append(std::string_view(&mark, 1));
  for (size_t i = 0; i < text.size();) {
    const Utf8Step step = utf8_step(std::string_view(text.text).substr(i));
    const char32_t c = step.code_point;
    std::string shown = text.text.substr(i, step.length);
    if (c == '\\' || c == static_cast<char32_t>(mark)) {
      shown.insert(0, 1, '\\');
    } else if (c == '\n' || c == '\r' || c == '\t') {
      shown = c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t";
    } else if (!printable(c)) {
      shown = c < 0x100     ? fmt::format("\\x{:02x}", static_cast<uint32_t>(c))
              : c < 0x10000 ? fmt::format("\\u{:04x}", static_cast<uint32_t>(c))
                            : fmt::format("\\U{:08x}", static_cast<uint32_t>(c));
    }
    out.append(shown, text.outside(i));
    i += step.length;
  }
  out.append(std::string_view(&mark, 1));
}

void print_repr(const Value& value, MarkedText& out) {
  switch (value.kind()) {
    case Kind::text:
      return quote(value.as_text(), out);
    case Kind::list:
    case Kind::tuple:
    case Kind::generator: {
      if (value.is(Kind::generator))
        throw ValueError{"a generator cannot be printed, it needs |list or |join"};
      const bool tuple = value.is(Kind::tuple);
      out.append(tuple ? "(" : "[");
      for (size_t i = 0; i < value.items().size(); ++i) {
        if (i) out.append(", ");
        print_repr(value.items()[i], out);
      }
      out.append(tuple ? (value.items().size() == 1 ? ",)" : ")") : "]");
      return;
    }
    case Kind::dict: {
      out.append("{");
      bool first = true;
      for (const auto& [key, member] : value.members()) {
        if (!first) out.append(", ");
        first = false;
        print_repr(key, out);
        out.append(": ");
        print_repr(member, out);
      }
      out.append("}");
      return;
    }
    case Kind::undefined:
      return out.append("Undefined");
    case Kind::none:
      return out.append("None");
    case Kind::boolean:
      return out.append(value.as_bool() ? "True" : "False");
    case Kind::integer:
      return out.append(std::to_string(value.as_integer()));
    case Kind::real:
      return out.append(real_to_text(value.as_real()));
    default:
      throw ValueError{"a " + std::string(value.type_name()) + " cannot be printed"};
  }
}

class JsonPrinter {
 public:
  JsonPrinter(const JsonStyle& style, MarkedText& out) : style_(style), out_(out) {}

  void print(const Value& value, int level) {
    switch (value.kind()) {
      case Kind::none:
        return out_.append("null");
      case Kind::boolean:
        return out_.append(value.as_bool() ? "true" : "false");
      case Kind::integer:
        return out_.append(std::to_string(value.as_integer()));
      case Kind::real:
        return real(value.as_real());
      case Kind::text:
        return quoted(value.as_text());
      case Kind::list:
      case Kind::tuple:
        return array(value, level);
      case Kind::dict:
        return object(value, level);
      default:
        throw ValueError{"a " + std::string(value.type_name()) + " cannot become JSON"};
    }
  }

 private:
  void real(double value) {
    if (std::isfinite(value)) return out_.append(real_to_text(value));
    out_.append(std::isnan(value) ? "NaN" : value < 0 ? "-Infinity" : "Infinity");
  }

  void quoted(const MarkedText& text) {
    out_.append("\"");
    for (size_t i = 0; i < text.size();) {
      const Utf8Step step = utf8_step(std::string_view(text.text).substr(i));
      out_.append(escaped(step.code_point, std::string_view(text.text).substr(i, step.length)),
                  text.outside(i));
      i += step.length;
    }
    out_.append("\"");
  }

  std::string escaped(char32_t c, std::string_view own) const {
    const auto unit = [](char32_t u) { return fmt::format("\\u{:04x}", static_cast<uint32_t>(u)); };
    switch (c) {
      case '"':
        return "\\\"";
      case '\\':
        return "\\\\";
      case '\n':
        return "\\n";
      case '\r':
        return "\\r";
      case '\t':
        return "\\t";
      case '\f':
        return "\\f";
      case '\b':
        return "\\b";
      default:
        break;
    }
    if (c < 0x20) return unit(c);
    if (!style_.ensure_ascii || c < 0x7f) return std::string(own);
    if (c < 0x10000) return unit(c);
    return unit(0xd800 + ((c - 0x10000) >> 10)) + unit(0xdc00 + ((c - 0x10000) & 0x3ff));
  }

  void new_line(int level) {
    if (!style_.pretty) return;
    out_.append("\n");
    for (int i = 0; i < level; ++i) out_.append(style_.indent);
  }

  void array(const Value& value, int level) {
    if (value.items().empty()) return out_.append("[]");
    out_.append("[");
    bool first = true;
    for (const Value& item : value.items()) {
      if (!first) out_.append(style_.item_separator);
      first = false;
      new_line(level + 1);
      print(item, level + 1);
    }
    new_line(level);
    out_.append("]");
  }

  void object(const Value& value, int level) {
    if (value.members().empty()) return out_.append("{}");
    Members members = value.members();
    if (style_.sort_keys)
      std::stable_sort(members.begin(), members.end(),
                       [](const auto& a, const auto& b) { return compare(a.first, b.first) < 0; });
    out_.append("{");
    bool first = true;
    for (const auto& [key, member] : members) {
      if (!first) out_.append(style_.item_separator);
      first = false;
      new_line(level + 1);
      if (key.is(Kind::text)) {
        quoted(key.as_text());
      } else {
        out_.append("\"");
        print(key, level);
        out_.append("\"");
      }
      out_.append(style_.key_separator);
      print(member, level + 1);
    }
    new_line(level);
    out_.append("}");
  }

  const JsonStyle& style_;
  MarkedText& out_;
};

}  // namespace

MarkedText to_repr(const Value& value) {
  MarkedText out;
  print_repr(value, out);
  return out;
}

MarkedText to_text(const Value& value) {
  if (value.is(Kind::text)) return value.as_text();
  if (value.is(Kind::undefined)) return {};
  return to_repr(value);
}

MarkedText to_json(const Value& value, const JsonStyle& style) {
  MarkedText out;
  JsonPrinter(style, out).print(value, 0);
  return out;
}

}  // namespace indexshare::chat
