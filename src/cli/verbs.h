// SPDX-License-Identifier: Apache-2.0
// The verbs of the program, one file each. A verb declares its flags on `app`; the function it returns does
// the work once the command line has been read, and its result is the exit code.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>
#include <vector>

namespace indexshare::cli {

using Action = std::function<int()>;

Action add_generate(CLI::App& app);
Action add_chat(CLI::App& app);
Action add_inspect(CLI::App& app);
/// @param arguments those after the verb: each row of bench is measured in a fresh process that gets them
/// too, and a report of analyze says how it was made.
Action add_bench(CLI::App& app, const std::vector<std::string>& arguments);
Action add_analyze(CLI::App& app, const std::vector<std::string>& arguments);
Action add_perplexity(CLI::App& app);
Action add_logits(CLI::App& app);
Action add_quantize(CLI::App& app);
Action add_tokenize(CLI::App& app);

}  // namespace indexshare::cli
