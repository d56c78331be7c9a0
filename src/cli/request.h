// SPDX-License-Identifier: Apache-2.0
// What generate and chat have in common: running one request to its end, and saying how fast that went.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>

#include "indexshare/engine.h"
#include "terminal.h"

namespace indexshare::cli {

/// --chat-template-file and --chat-template-kwargs.
struct TemplateFlags {
  std::optional<std::string> file;
  std::string kwargs_json;
};

void add_template_flags(CLI::App& app, TemplateFlags& flags);
/// @throws UsageError where --chat-template-file cannot be read, Error{not_found} where the model has no
/// template.
ChatTemplate load_template(const Engine& engine, const TemplateFlags& flags);
ChatOptions chat_options(const TemplateFlags& flags);

/// Steps until the request is done. SIGINT cancels it at a step boundary; what it generated so far comes
/// back.
/// @throws std::runtime_error where the request failed.
Completion run_request(Engine& engine, Request request);

/// "prompt 512 tokens in 0.40 s (1280 tokens/s), 24 tokens in 1.20 s (20.0 tokens/s)"
std::string speed_summary(const Completion& completion);

double rate(int64_t tokens, double seconds);  // 0 where no time passed
const char* name(FinishReason reason);

}  // namespace indexshare::cli
