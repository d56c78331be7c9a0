// SPDX-License-Identifier: Apache-2.0
// indexshare chat: a line is a turn. Every turn continues one sequence, so only what is new is read by the
// model.
#include <fmt/format.h>
#include <unistd.h>

#include <cctype>
#include <exception>
#include <iostream>
#include <memory>
#include <utility>

#include "drafts.h"
#include "exit_codes.h"
#include "indexshare/engine.h"
#include "options.h"
#include "progress.h"
#include "request.h"
#include "verbs.h"

namespace indexshare::cli {
namespace {

constexpr int64_t kMaxReplyTokens = 1024;  // where neither the user nor the model says
constexpr const char* kHelp =
    "A line is a message; the conversation so far is kept.\n"
    "  /reset  forget the conversation\n"
    "  /quit   leave (so does the end of input)\n"
    "  /help   this text\n";

struct Options {
  EngineFlags engine;
  SamplingFlags sampling;
  TemplateFlags chat_template;
  std::string system;
};

class Chat {
 public:
  Chat(Engine& engine, const Options& options)
      : engine_(engine),
        options_(options),
        template_(load_template(engine, options.chat_template)),
        defaults_(engine.default_sampling()) {
    if (defaults_.max_tokens == SamplingOptions{}.max_tokens) defaults_.max_tokens = kMaxReplyTokens;
    reset();
  }

  void reset() {
    renew_sequence();
    messages_.clear();
    if (!options_.system.empty()) messages_.push_back({"system", options_.system});
  }

  /// The next turn reads the whole conversation again: after a failure nobody knows what the cache holds.
  void renew_sequence() {
    if (const SequenceId old = std::exchange(sequence_, 0); old != 0) engine_.release(old);
    sequence_ = engine_.create_sequence();
  }

  /// Streams the reply to stdout. A turn that fails is as if it had not been said. Returns false when
  /// interrupted.
  bool say(const std::string& line) {
    messages_.push_back({"user", line});
    try {
      Completion reply = run_request(engine_, request());
      print("\n");
      if (!options_.engine.quiet && isatty(STDERR_FILENO)) print_note(speed_summary(reply));
      messages_.push_back({"assistant", std::move(reply.text)});
      return reply.finish != FinishReason::cancelled;
    } catch (...) {
      messages_.pop_back();
      throw;
    }
  }

 private:
  Request request() {
    Request request;
    request.tokens =
        engine_.tokenizer().encode(template_.render(messages_, chat_options(options_.chat_template)));
    const int64_t room = engine_.info().ctx_size - static_cast<int64_t>(request.tokens.size());
    request.sampling = options_.sampling.over(defaults_, room);
    request.sequence = sequence_;
    const auto bar = std::make_shared<ProgressBar>("reading", !options_.engine.quiet);
    request.on_prefill = [bar](int64_t done, int64_t total) { bar->update(done, total); };
    request.on_token = [bar](const GeneratedToken& token) {
      bar->wipe();
      if (!token.text.empty()) print(token.text);
    };
    return request;
  }

  Engine& engine_;
  const Options& options_;
  ChatTemplate template_;
  SamplingOptions defaults_;
  SequenceId sequence_ = 0;
  std::vector<ChatMessage> messages_;
};

// "/word ..."; a path is a message.
bool looks_like_command(const std::string& line) {
  return line.size() > 1 && line[0] == '/' && std::isalpha(static_cast<unsigned char>(line[1])) &&
         line.find('/', 1) == std::string::npos;
}

// Returns false where the conversation is over.
bool obey(Chat& chat, const std::string& line, int& exit_code) {
  if (line == "/quit" || line == "/exit") return false;
  if (line == "/help") {
    fmt::print(stderr, "{}", kHelp);
  } else if (line == "/reset") {
    chat.reset();
  } else if (looks_like_command(line)) {
    print_note(fmt::format("{}: no such command; /help lists them", line));
  } else if (!line.empty() && !chat.say(line)) {
    exit_code = kInterrupted;
    return false;
  }
  return true;
}

int run(const Options& options) {
  const auto engine = load_engine(options.engine, true);
  Chat chat(*engine, options);
  const bool interactive = isatty(STDIN_FILENO);
  if (interactive && !options.engine.quiet) fmt::print(stderr, "{}", kHelp);
  int exit_code = kOk;
  for (std::string line;;) {
    if (interactive) print("> ");
    if (!std::getline(std::cin, line)) break;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    try {
      if (!obey(chat, line, exit_code)) break;
    } catch (const std::exception& error) {
      if (!interactive) throw;
      print_error(error.what());
      chat.renew_sequence();
    }
  }
  if (interactive && exit_code == kOk) print("\n");
  return exit_code;
}

}  // namespace

Action add_chat(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  add_engine_flags(app, options->engine);
  app.add_option("--system", options->system, "System message")->type_name("TEXT");
  add_template_flags(app, options->chat_template);
  add_draft_flags(app, options->engine.options);
  options->sampling.add_to(app);
  return [options] { return run(*options); };
}

}  // namespace indexshare::cli
