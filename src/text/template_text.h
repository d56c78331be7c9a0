// SPDX-License-Identifier: Apache-2.0
// Cutting and joining marked texts, shared by string methods and filters.
#pragma once

#include <string_view>
#include <vector>

#include "text/marked_text.h"
#include "text/template_interpreter.h"

namespace indexshare::chat {

/// What str.isspace says: White_Space and the four separators U+001C to U+001F.
bool is_python_space(char32_t c);

/// At most `limit` cuts, counted from the right if `from_right`; -1 for no limit. `separator` is not empty.
std::vector<MarkedText> split_at(Interpreter& interpreter, const MarkedText& text, std::string_view separator,
                                 int64_t limit, bool from_right);
/// At runs of white space; no empty parts.
std::vector<MarkedText> split_at_space(Interpreter& interpreter, const MarkedText& text, int64_t limit,
                                       bool from_right);
std::vector<MarkedText> split_lines(Interpreter& interpreter, const MarkedText& text, bool keep_ends);
/// Without the characters of `set` at its ends; without white space where `set` is null.
MarkedText strip_text(const MarkedText& text, const std::string_view* set, bool front, bool back);
/// At most `limit` replacements, -1 for all.
MarkedText replace_text(Interpreter& interpreter, const MarkedText& text, const MarkedText& from,
                        const MarkedText& to, int64_t limit);
/// The printed items with `separator` between.
MarkedText join_texts(Interpreter& interpreter, const Values& items, const MarkedText& separator);

}  // namespace indexshare::chat
