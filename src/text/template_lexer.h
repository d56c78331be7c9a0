// SPDX-License-Identifier: Apache-2.0
// Jinja source as tokens. White space is controlled as transformers sets it: trim_blocks and lstrip_blocks
// on, the last newline of the file dropped.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace indexshare::chat {

struct Token {
  enum class Kind {
    data,
    output_begin,
    output_end,
    block_begin,
    block_end,
    name,
    string,
    integer,
    real,
    op,
    end
  } kind;
  std::string text;  // of a string: with its escapes resolved
  int line;
};

/// Ends with one token of kind `end`. Throws Error{unsupported} that begins with `name` and the line.
std::vector<Token> lex_template(std::string_view source, const std::string& name);

}  // namespace indexshare::chat
