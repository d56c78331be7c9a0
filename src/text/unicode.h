// SPDX-License-Identifier: Apache-2.0
// UTF-8 one character at a time, with Unicode's rule for what is not valid: each maximal prefix of a
// character counts as one mistake (the rule of Rust's from_utf8_lossy and of the WHATWG).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace indexshare {

inline constexpr std::string_view kReplacementCharacter = "\xef\xbf\xbd";  // U+FFFD

struct Utf8Step {
  enum Kind { valid, invalid, truncated } kind;  // truncated: the text ends inside a character valid so far
  int length;                                    // bytes this step covers, at least 1
  char32_t code_point;                           // where valid
};

/// The character or mistake at the beginning of `text`, which must not be empty.
Utf8Step utf8_step(std::string_view text);

bool is_valid_utf8(std::string_view text);
/// `text` with U+FFFD for each mistake.
std::string to_valid_utf8(std::string_view text);
/// Bytes at the end of `text` that begin a character without finishing it: 0 to 3.
size_t unfinished_utf8_suffix(std::string_view text);

void append_utf8(std::string& out, char32_t code_point);

/// Characters of a valid text.
size_t count_characters(std::string_view text);
/// Byte offset of character `index` of a valid text, its size where there are fewer.
size_t character_offset(std::string_view text, size_t index);

/// The White_Space property.
bool is_white_space(char32_t code_point);
/// `text` without the White_Space characters at one end.
std::string_view trim_start(std::string_view text);
std::string_view trim_end(std::string_view text);

}  // namespace indexshare
