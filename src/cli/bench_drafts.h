// SPDX-License-Identifier: Apache-2.0
// bench --draft-tokens: decoding with drafts and without, on a text of the user's. Random tokens and random
// replies, as the other rows of bench have, would say nothing here: how often drafts come true is a property
// of model and text.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "options.h"

namespace indexshare::cli {

struct DraftBench {
  int64_t draft_tokens = 0;  // 0: not asked for
  std::optional<std::string> text_file;
  std::vector<int64_t> contexts;
  int64_t decode_tokens = 0, num_prompts = 0;
  bool json = false;
};

void add_draft_bench_flags(CLI::App& app, DraftBench& bench);

/// @throws UsageError where the text is missing or too short.
int run_draft_bench(const DraftBench& bench, const EngineFlags& engine);

}  // namespace indexshare::cli
