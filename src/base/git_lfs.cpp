// SPDX-License-Identifier: Apache-2.0
#include "base/git_lfs.h"

#include "base/check.h"

namespace indexshare {

void refuse_lfs_pointer(std::string_view text, const std::string& what) {
  if (text.starts_with("version https://git-lfs.github.com/spec/v1"))
    fail(ErrorCode::unsupported,
         "{}: expected the file itself, found a git-lfs pointer to it (git lfs pull fetches the file)", what);
}

}  // namespace indexshare
