// SPDX-License-Identifier: Apache-2.0
// Runs this program again, with a clean slate of memory, and collects what it prints.
#pragma once

#include <string>
#include <vector>

namespace indexshare::cli {

struct ChildResult {
  std::string output;  // its stdout; stderr is shared with ours
  int exit_code = 0;   // 128 + n where signal n ended it, as shells report it
};

/// @throws std::runtime_error where no process can be started.
ChildResult run_self(const std::vector<std::string>& arguments);

}  // namespace indexshare::cli
