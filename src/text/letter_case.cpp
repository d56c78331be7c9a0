// SPDX-License-Identifier: Apache-2.0
#include "text/letter_case.h"

#include <clocale>
#include <cwctype>
#include <functional>
#include <utility>

#include "text/unicode.h"

namespace indexshare {

namespace {

locale_t unicode_locale() {
  static const locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);  // part of glibc's own package
  return locale;
}

// `to(c, previous)` for every character.
MarkedText map_characters(const MarkedText& text, const std::function<char32_t(char32_t, char32_t)>& to) {
  MarkedText out;
  char32_t previous = 0;
  for (size_t i = 0; i < text.size();) {
    const Utf8Step step = utf8_step(std::string_view(text.text).substr(i));
    const char32_t c = to(step.code_point, previous);
    std::string mapped;
    append_utf8(mapped, c);
    if (step.code_point == 0xdf && c == U'S') mapped = "SS";
    out.append(mapped, text.outside(i));
    previous = step.code_point;
    i += step.length;
  }
  return out;
}

}  // namespace

bool is_letter(char32_t c) {
  if (c < 0x80) return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
  return unicode_locale() && iswalpha_l(static_cast<wint_t>(c), unicode_locale());
}

char32_t upper_of(char32_t c) {
  if (c < 0x80) return c >= 'a' && c <= 'z' ? c - 32 : c;
  return unicode_locale() ? static_cast<char32_t>(towupper_l(static_cast<wint_t>(c), unicode_locale())) : c;
}

char32_t lower_of(char32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
  return unicode_locale() ? static_cast<char32_t>(towlower_l(static_cast<wint_t>(c), unicode_locale())) : c;
}

MarkedText change_case(const MarkedText& text, LetterCase to) {
  if (to == LetterCase::lower) return map_characters(text, [](char32_t c, char32_t) { return lower_of(c); });
  return map_characters(text, [](char32_t c, char32_t) { return c == 0xdf ? U'S' : upper_of(c); });
}

MarkedText capitalize(const MarkedText& text) {
  bool first = true;
  return map_characters(
      text, [&](char32_t c, char32_t) { return std::exchange(first, false) ? upper_of(c) : lower_of(c); });
}

MarkedText title_case(const MarkedText& text) {
  return map_characters(
      text, [](char32_t c, char32_t previous) { return is_letter(previous) ? lower_of(c) : upper_of(c); });
}

}  // namespace indexshare
