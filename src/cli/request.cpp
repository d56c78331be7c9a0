// SPDX-License-Identifier: Apache-2.0
#include "request.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <utility>

#include "drafts.h"
#include "exit_codes.h"
#include "interrupt.h"

namespace indexshare::cli {

void add_template_flags(CLI::App& app, TemplateFlags& flags) {
  app.add_option("--chat-template-file", flags.file, "Jinja template to use instead of the model's")
      ->type_name("FILE");
  app.add_option("--chat-template-kwargs", flags.kwargs_json,
                 "JSON object of further template variables, e.g. '{\"enable_thinking\":false}'")
      ->type_name("JSON");
}

ChatTemplate load_template(const Engine& engine, const TemplateFlags& flags) {
  if (flags.file && !std::ifstream(*flags.file)) {
    throw UsageError(fmt::format("--chat-template-file: cannot read {}", *flags.file));
  }
  if (flags.file && std::filesystem::is_regular_file(*flags.file) && std::filesystem::is_empty(*flags.file)) {
    throw UsageError(
        fmt::format("--chat-template-file: {}: expected a template, found an empty file", *flags.file));
  }
  std::optional<std::filesystem::path> file;
  if (flags.file) file = *flags.file;
  return ChatTemplate::load(engine.info().directory, file);
}

ChatOptions chat_options(const TemplateFlags& flags) {
  ChatOptions options;
  options.kwargs_json = flags.kwargs_json;
  return options;
}

namespace {

// Frees the sequence of a request whose step failed; that this fails as well is no news.
void forget(Engine& engine, RequestId id) {
  try {
    engine.cancel(id);
    engine.step();
    engine.take(id);
  } catch (const std::exception&) {
    return;
  }
}

}  // namespace

Completion run_request(Engine& engine, Request request) {
  const InterruptScope scope;
  const RequestId id = engine.submit(std::move(request));
  bool cancelled = false;
  try {
    while (engine.step()) {
      if (interrupted() && !std::exchange(cancelled, true)) engine.cancel(id);
    }
  } catch (...) {
    forget(engine, id);
    throw;
  }
  std::optional<Completion> completion = engine.take(id);
  if (!completion) throw std::runtime_error("the engine stopped before the request was done");
  if (completion->finish == FinishReason::error) throw std::runtime_error(completion->error);
  if (interrupted()) completion->finish = FinishReason::cancelled;
  return *std::move(completion);
}

std::string speed_summary(const Completion& completion) {
  const Timings& t = completion.timings;
  std::string text = fmt::format("prompt {} tokens", with_commas(completion.prompt_tokens));
  if (completion.cached_tokens > 0)
    text += fmt::format(" ({} from the cache)", with_commas(completion.cached_tokens));
  text += fmt::format(" in {} ({:.1f} tokens/s), {} tokens in {} ({:.1f} tokens/s)",
                      human_seconds(t.prefill_seconds), rate(t.prefill_tokens, t.prefill_seconds),
                      with_commas(t.decode_tokens), human_seconds(t.decode_seconds),
                      rate(t.decode_tokens, t.decode_seconds));
  if (completion.drafts.rounds > 0) text += "; " + drafts_summary(completion.drafts);
  return text;
}

double rate(int64_t tokens, double seconds) {
  return seconds > 0 ? static_cast<double>(tokens) / seconds : 0;
}

const char* name(FinishReason reason) {
  switch (reason) {
    case FinishReason::stop:
      return "stop";
    case FinishReason::length:
      return "length";
    case FinishReason::cancelled:
      return "cancelled";
    case FinishReason::error:
      return "error";
  }
  return "error";
}

}  // namespace indexshare::cli
