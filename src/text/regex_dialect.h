// SPDX-License-Identifier: Apache-2.0
// Oniguruma's dialect of regular expressions, as far as pre-tokenizers use it, in PCRE2's.
#pragma once

#include <string>
#include <string_view>

namespace indexshare {

/// `pattern` with \s, \w, \h and \u spelled so that PCRE2 (UTF, UCP) matches what Oniguruma would. Throws
/// Error{unsupported} beginning with `where` for constructs that mean different things to the two.
std::string translate_oniguruma(std::string_view pattern, std::string_view where);

}  // namespace indexshare
