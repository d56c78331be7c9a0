// SPDX-License-Identifier: Apache-2.0
// Upper and lower case of texts as Python's str has them, but for characters whose other case depends on what
// is around them (final sigma) or has several letters (all but U+00DF).
#pragma once

#include "text/marked_text.h"

namespace indexshare {

enum class LetterCase { upper, lower };

MarkedText change_case(const MarkedText& text, LetterCase to);
/// First letter upper, all others lower.
MarkedText capitalize(const MarkedText& text);
/// Every letter that does not follow a letter upper, all others lower.
MarkedText title_case(const MarkedText& text);
bool is_letter(char32_t c);
char32_t upper_of(char32_t c);
char32_t lower_of(char32_t c);

}  // namespace indexshare
