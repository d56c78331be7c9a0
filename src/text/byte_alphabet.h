// SPDX-License-Identifier: Apache-2.0
// The printable spelling of bytes in byte-level vocabularies: printable Latin-1 stands for itself, the 68
// others become U+0100 onwards in order, so that a space is spelled U+0120.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace indexshare {

/// The bytes that `spelling` stands for; nothing where a character of it is no byte.
std::optional<std::string> bytes_of_spelling(std::string_view spelling);

std::string spelling_of_bytes(std::string_view bytes);

}  // namespace indexshare
