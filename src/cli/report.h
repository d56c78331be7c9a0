// SPDX-License-Identifier: Apache-2.0
// Pieces of JSON that several verbs print alike.
#pragma once

#include <span>
#include <string>

#include "indexshare/engine.h"
#include "terminal.h"

namespace indexshare::cli {

Json flops_json(const Counters::Flops& flops);  // by part, and "total"
Json seconds_json(const Counters::Seconds& seconds);
Json counters_json(const Counters& counters);
Json weights_json(const ModelInfo& info);               // format, activation bits, bytes by format
Json cache_json(const ModelInfo& info);                 // formats and bytes a token
std::string plan_pattern(std::span<const int> source);  // "FFFSSS": F for a layer that is its own source

}  // namespace indexshare::cli
