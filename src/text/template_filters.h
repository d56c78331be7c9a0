// SPDX-License-Identifier: Apache-2.0
// The two tables that template_filters.cpp chooses from.
#pragma once

#include <map>
#include <string_view>

#include "text/template_interpreter.h"

namespace indexshare::chat {

using Filter = Value (*)(Interpreter&, const Value&, const Arguments&);

const std::map<std::string_view, Filter>& sequence_filters();

}  // namespace indexshare::chat
