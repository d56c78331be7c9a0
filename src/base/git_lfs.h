// SPDX-License-Identifier: Apache-2.0
// A clone made without git-lfs has small text files, pointers, where the large files belong.
#pragma once

#include <string>
#include <string_view>

namespace indexshare {

/// @param text the file's first bytes, or all of them.
/// @throws Error{unsupported} naming `what` where they begin a git-lfs pointer.
void refuse_lfs_pointer(std::string_view text, const std::string& what);

}  // namespace indexshare
