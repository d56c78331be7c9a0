// SPDX-License-Identifier: Apache-2.0
// indexshare generate: a prompt, its continuation, and with --json what both cost.
#include <fmt/format.h>
#include <unistd.h>

#include <memory>
#include <utility>

#include "drafts.h"
#include "exit_codes.h"
#include "indexshare/engine.h"
#include "options.h"
#include "progress.h"
#include "report.h"
#include "request.h"
#include "verbs.h"

namespace indexshare::cli {
namespace {

struct Options {
  EngineFlags engine;
  SamplingFlags sampling;
  TextFlags prompt;
  TemplateFlags chat_template;
  bool chat = false, special = false, json = false, progress = false;
};

std::vector<int32_t> prompt_tokens(const Engine& engine, const Options& options, const std::string& text) {
  const Tokenizer& tokenizer = engine.tokenizer();
  if (options.chat) {
    const ChatMessage message{"user", text};
    const ChatTemplate chat_template = load_template(engine, options.chat_template);
    return tokenizer.encode(chat_template.render({&message, 1}, chat_options(options.chat_template)));
  }
  const SpecialTokens how = options.special ? SpecialTokens::parse : SpecialTokens::as_text;
  return tokenizer.with_special_tokens(tokenizer.encode(text, how));
}

// "" for an id that the model has and the tokenizer has not.
std::string spelling(const Tokenizer& tokenizer, int32_t token) {
  return token < tokenizer.vocab_size() ? tokenizer.token_text(token) : "";
}

Json logprobs_json(const Completion& completion, const Tokenizer& tokenizer) {
  Json list = Json::array();
  for (const GeneratedToken& token : completion.tokens) {
    Json top = Json::array();
    for (const TokenLogprob& other : token.top_logprobs) {
      top.push_back(
          {{"token", other.token}, {"text", spelling(tokenizer, other.token)}, {"logprob", other.logprob}});
    }
    list.push_back({{"token", token.token},
                    {"text", spelling(tokenizer, token.token)},
                    {"logprob", token.logprob},
                    {"top", std::move(top)}});
  }
  return list;
}

Json result_json(const Engine& engine, const Completion& completion, double load_seconds,
                 bool with_logprobs) {
  const Timings& t = completion.timings;
  std::vector<int32_t> tokens;
  for (const GeneratedToken& token : completion.tokens) tokens.push_back(token.token);
  Json result;
  result["schema_version"] = kSchemaVersion;
  result["text"] = completion.text;
  result["tokens"] = std::move(tokens);
  result["prompt_tokens"] = completion.prompt_tokens;
  result["cached_tokens"] = completion.cached_tokens;
  result["finish_reason"] = name(completion.finish);
  if (with_logprobs) result["logprobs"] = logprobs_json(completion, engine.tokenizer());
  result["timings"] = {{"load_s", load_seconds},
                       {"prefill_s", t.prefill_seconds},
                       {"decode_s", t.decode_seconds},
                       {"prefill_tokens_per_s", rate(t.prefill_tokens, t.prefill_seconds)},
                       {"decode_tokens_per_s", rate(t.decode_tokens, t.decode_seconds)}};
  result["counters"] = counters_json(engine.counters());
  const ModelInfo& info = engine.info();
  result["weights"] = weights_json(info);
  result["cache"] = cache_json(info);
  if (info.draft_tokens > 0) {
    result["counters"]["drafting"] = drafting_json(engine.counters().drafting);
    result["draft_tokens"] = info.draft_tokens;
    result["draft_index_share"] = info.draft_index_share;
    result["drafts"] = drafts_json(completion.drafts);
  }
  result["plan"] = plan_pattern(info.source);
  result["full_layers"] = info.full_layers;
  result["backend"] = info.backend;
  result["peak_rss_bytes"] = peak_rss_bytes();
  return result;
}

int run(const Options& options) {
  const std::string text = read_prompt(options.prompt);
  const Stopwatch load_watch;
  const auto engine = load_engine(options.engine, !options.json || options.progress);
  const double load_seconds = load_watch.seconds();

  Request request;
  request.tokens = prompt_tokens(*engine, options, text);
  const int64_t room = engine->info().ctx_size - static_cast<int64_t>(request.tokens.size());
  request.sampling = options.sampling.over(engine->default_sampling(), room);
  const bool with_logprobs = request.sampling.logprobs >= 0;
  const bool loud = !options.engine.quiet && !options.json;
  ProgressBar bar("reading", loud || options.progress);
  request.on_prefill = bar.callback();
  bool ends_with_newline = true;
  request.on_token = [&](const GeneratedToken& token) {
    bar.wipe();
    if (options.json || token.text.empty()) return;
    print(token.text);
    ends_with_newline = token.text.back() == '\n';
  };

  const Completion completion = run_request(*engine, std::move(request));
  bar.wipe();
  if (options.json) {
    print_json(result_json(*engine, completion, load_seconds, with_logprobs));
  } else if (!ends_with_newline) {
    print("\n");
  }
  if (loud && (isatty(STDERR_FILENO) || options.engine.verbose)) print_note(speed_summary(completion));
  return completion.finish == FinishReason::cancelled ? kInterrupted : kOk;
}

}  // namespace

Action add_generate(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  add_engine_flags(app, options->engine);
  add_text_flags(app, options->prompt);
  CLI::Option* chat =
      app.add_flag("--chat", options->chat, "Send the prompt as a user's message, by the chat template");
  app.add_flag("--special", options->special, "Let <|...|> in the prompt become special tokens")
      ->excludes(chat);
  add_template_flags(app, options->chat_template);
  for (const char* name : {"--chat-template-file", "--chat-template-kwargs"}) {
    app.get_option(name)->needs(chat);
  }
  add_draft_flags(app, options->engine.options);
  options->sampling.add_to(app);
  add_json_flag(app, options->json);
  app.add_flag("--progress", options->progress, "Draw the progress bar on a terminal even with --json");
  return [options] { return run(*options); };
}

}  // namespace indexshare::cli
