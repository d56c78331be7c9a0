// SPDX-License-Identifier: Apache-2.0
// "Did you mean ...?" for unknown verbs and flags.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace indexshare::cli {

/// " (did you mean --temp?)", or "" where nothing known comes near.
std::string suggestion(std::string_view unknown, const std::vector<std::string>& known);

}  // namespace indexshare::cli
