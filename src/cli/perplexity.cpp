// SPDX-License-Identifier: Apache-2.0
// indexshare perplexity: exp of the mean negative log-likelihood over windows of a text. Windows of --ctx
// tokens start every --ppl-stride tokens; each scores what the one before it did not, the first all but its
// first token.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "exit_codes.h"
#include "flags.h"
#include "indexshare/engine.h"
#include "indexshare/estimate.h"
#include "interrupt.h"
#include "options.h"
#include "progress.h"
#include "verbs.h"

namespace indexshare::cli {
namespace {

struct Options {
  EngineFlags engine;
  TextFlags text;
  int64_t ctx = 2048, stride = 0;  // stride 0: half of ctx
  bool json = false;
};

struct Window {
  int64_t begin, end;    // tokens read
  int64_t first_scored;  // its predecessor is the first token whose logits count
};

std::vector<Window> make_windows(int64_t num_tokens, int64_t ctx, int64_t stride) {
  std::vector<Window> windows;
  int64_t scored = 1;
  for (int64_t begin = 0; scored < num_tokens; begin += stride) {
    const int64_t end = std::min(begin + ctx, num_tokens);
    windows.push_back({begin, end, std::max(scored, begin + 1)});
    scored = end;
  }
  return windows;
}

double negative_log_likelihood(std::span<const float> logits, int32_t token) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  return largest + std::log(sum) - static_cast<double>(logits[token]);
}

void score_window(Engine& engine, std::span<const int32_t> tokens, const Window& window,
                  RunningEstimate& statistics, const Progress& progress) {
  const SequenceId sequence = engine.create_sequence();
  const auto read = [&](int64_t from, int64_t to, bool scored) {
    EvaluateOptions options;
    options.all_rows = scored;
    options.progress = [&](int64_t done, int64_t) {
      throw_if_interrupted();
      progress(from - window.begin + done, window.end - window.begin);
    };
    if (scored) {
      options.sink = [&](int64_t position, std::span<const float> logits) {
        statistics.add(negative_log_likelihood(logits, tokens[window.begin + position + 1]));
      };
    }
    if (from < to) engine.evaluate(sequence, tokens.subspan(from, to - from), options);
  };
  read(window.begin, window.first_scored - 1, false);  // context alone: no head
  read(window.first_scored - 1, window.end - 1, true);
  engine.release(sequence);
}

void report(const Options& options, const RunningEstimate& s, size_t num_windows, int64_t num_tokens,
            double seconds) {
  const double perplexity = std::exp(s.mean()), uncertainty = perplexity * s.standard_error();
  if (options.json) {
    print_json({{"schema_version", kSchemaVersion},
                {"perplexity", perplexity},
                {"uncertainty", uncertainty},
                {"nats_per_token", s.mean()},
                {"nats_per_token_uncertainty", s.standard_error()},
                {"tokens", num_tokens},
                {"scored_tokens", s.count()},
                {"windows", num_windows},
                {"ctx", options.ctx},
                {"stride", options.stride},
                {"seconds", seconds}});
    return;
  }
  print(fmt::format(
      "perplexity {:.4f} +/- {:.4f}  ({:.5f} nats a token; {} of {} tokens scored in {} windows of {}, "
      "{})\n",
      perplexity, uncertainty, s.mean(), with_commas(s.count()), with_commas(num_tokens), num_windows,
      with_commas(options.ctx), human_seconds(seconds)));
}

int run(Options options) {
  if (options.stride == 0) options.stride = std::max<int64_t>(options.ctx / 2, 1);
  if (options.stride > options.ctx - 1) {
    throw UsageError(fmt::format("--ppl-stride: expected at most --ctx - 1 = {}, got {}", options.ctx - 1,
                                 options.stride));
  }
  const std::string text = read_prompt(options.text);
  if (options.engine.options.ctx_size == 0) options.engine.options.ctx_size = options.ctx;
  const auto engine = load_engine(options.engine, !options.json);
  const Tokenizer& tokenizer = engine->tokenizer();
  const std::vector<int32_t> tokens =
      tokenizer.with_special_tokens(tokenizer.encode(text, SpecialTokens::as_text));
  const auto num_tokens = static_cast<int64_t>(tokens.size());
  if (num_tokens < 2)
    throw UsageError(fmt::format("the text has {} tokens, expected at least 2", num_tokens));

  const InterruptScope scope;
  const std::vector<Window> windows = make_windows(num_tokens, options.ctx, options.stride);
  const Stopwatch watch;
  RunningEstimate statistics;
  for (size_t i = 0; i < windows.size(); ++i) {
    const std::string label =
        statistics.count() == 0
            ? fmt::format("window {}/{}", i + 1, windows.size())
            : fmt::format("window {}/{}, {:.4f} so far", i + 1, windows.size(), std::exp(statistics.mean()));
    ProgressBar bar(label, !options.engine.quiet && !options.json);
    score_window(*engine, tokens, windows[i], statistics, bar.callback());
  }
  report(options, statistics, windows.size(), num_tokens, watch.seconds());
  return kOk;
}

}  // namespace

Action add_perplexity(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  app.footer(
      "Perplexity is exp of the mean negative log-likelihood of the scored tokens. Windows of --ctx tokens "
      "start\n"
      "every --ppl-stride tokens; each scores the tokens that the one before it did not, the first all but "
      "its first\n"
      "token. The uncertainty is the standard error of that mean, times the perplexity.");
  add_engine_flags(app, options->engine);
  add_text_flags(app, options->text);
  add_number<int64_t>(app, "--ctx", options->ctx, "Tokens of a window", {2, INT32_MAX});
  add_number<int64_t>(app, "--ppl-stride", options->stride, "Tokens between two windows (0: half of --ctx)",
                      {0, INT32_MAX});
  add_json_flag(app, options->json);
  return [options] { return run(*options); };
}

}  // namespace indexshare::cli
