// SPDX-License-Identifier: Apache-2.0
// Text files that are there whole or not at all.
#pragma once

#include <string>
#include <string_view>

namespace indexshare::cli {

/// Written beside its place, then renamed to it; what is no regular file (/dev/stdout) is written directly.
/// @throws UsageError where the file cannot be created, std::runtime_error where writing fails.
void write_file(const std::string& path, std::string_view text);

/// Fails early, before hours of work, where write_file() would. @throws UsageError.
void check_writable(const std::string& path);

}  // namespace indexshare::cli
