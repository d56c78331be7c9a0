// SPDX-License-Identifier: Apache-2.0
// Drafting with the MTP layer, as the verbs that generate show it: its flags, and how the drafts fared.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "indexshare/engine.h"
#include "terminal.h"

namespace indexshare::cli {

inline constexpr int64_t kMaxDraftTokens = 32;

/// --draft-tokens and --no-draft-index-share.
void add_draft_flags(CLI::App& app, EngineOptions& options);

/// rounds, proposed, accepted, acceptance by place in the draft, accepted_length
Json drafts_json(const DraftStatistics& drafts);
Json drafting_json(const Counters::Drafting& drafting);  // the MTP layer's work
std::string drafts_summary(
    const DraftStatistics& drafts);  // "drafts 1.93 tokens a round, accepted 62 % 31 %"

}  // namespace indexshare::cli
