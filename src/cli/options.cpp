// SPDX-License-Identifier: Apache-2.0
#include "options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "exit_codes.h"
#include "flags.h"
#include "indexshare/analysis.h"
#include "progress.h"

namespace indexshare::cli {
namespace {

constexpr int64_t kMaxCount = int64_t{1} << 40;  // keeps sums of counts far from overflow

// "ID=V"
std::pair<int32_t, float> parse_logit_bias(const std::string& entry) {
  const size_t equals = entry.find('=');
  if (equals == std::string::npos) {
    throw CLI::ValidationError("--logit-bias", fmt::format("expected ID=V, got \"{}\"", entry));
  }
  return {parse_number<int32_t>("--logit-bias", entry.substr(0, equals), {0, INT32_MAX}),
          parse_number<float>("--logit-bias", entry.substr(equals + 1))};
}

}  // namespace

void add_model_argument(CLI::App& app, std::string& model, const std::string& help) {
  app.add_option("MODEL,-m,--model", model, help)->required()->type_name("");
}

void add_json_flag(CLI::App& app, bool& json) { app.add_flag("--json", json, "One JSON object on stdout"); }

void add_config_flags(CLI::App& app, EngineOptions& options) {
  app.add_option("--hf-overrides", options.hf_overrides,
                 "JSON object laid over config.json, e.g. '{\"index_topk_pattern\":\"FSSS\"}'")
      ->type_name("JSON");
  add_choice<std::string>(app, "--kv-cache-dtype", options.kv_cache_dtype,
                          "Rows of the caches; auto: f32 for f32 weights, else bf16",
                          {{"auto", "auto"}, {"f32", "f32"}, {"bf16", "bf16"}});
}

void add_pattern_flags(CLI::App& app, FixedPattern& pattern) {
  const FlagGroup group(app, "Positions attended whatever the index says");
  const Range<int64_t> count{0, kMaxCount};
  add_number(app, "--window", pattern.window, "Always attend the last N positions", count);
  add_number(app, "--sinks", pattern.sinks, "Always attend the first N positions", count);
  add_number(app, "--stride", pattern.stride, "Always attend every N-th position", count);
  add_number(app, "--stride-phase", pattern.stride_phase, "The strided positions are congruent to N", count);
  add_number(app, "--stride-cap", pattern.stride_cap, "At most the latest N strided positions (0: all)",
             count);
  add_choice<FixedPattern::Mode>(
      app, "--pattern-mode", pattern.mode,
      "Top-k among the other positions (fill), or among all and then merged (union)",
      {{"fill", FixedPattern::Mode::fill}, {"union", FixedPattern::Mode::union_}});
}

void add_engine_flags(CLI::App& app, EngineFlags& flags, bool with_plan) {
  add_model_argument(app, flags.model,
                     "Directory in Hugging Face's format, or org/name in the local HF cache");
  const FlagGroup group(app, "Engine");
  EngineOptions& options = flags.options;
  add_number(app, "-t,--threads", options.threads, "Threads (0: what affinity and cgroup allow)", {0, 4096});
  add_number<int64_t>(app, "-c,--ctx-size,--max-model-len", options.ctx_size,
                      "Positions of cache (0: the model's maximum)", {0, kMaxCount});
  add_number<int64_t>(app, "-b,--batch-size,--chunk-size", options.chunk_size, "Tokens of one forward pass",
                      {1, int64_t{1} << 20});
  add_choice<std::string>(app, "--backend", options.backend, "What computes",
                          {{"cpu", "cpu"}, {"reference", "reference"}, {"cuda", "cuda"}});
  add_config_flags(app, options);
  if (with_plan) {
    add_choice<PlanChoice>(app, "--plan", options.plan, "Layers that run an indexer",
                           {{"shared", PlanChoice::shared}, {"every_layer", PlanChoice::every_layer}});
  }
  add_choice<AttentionMode>(app, "--attention", options.attention,
                            "Over the selection, or over every position",
                            {{"sparse", AttentionMode::sparse}, {"dense", AttentionMode::dense}});
  app.add_flag("--check-tensors", options.check_tensors, "Refuse NaN and infinite weights");
  app.add_flag("-q,--quiet", flags.quiet, "No progress, notes or summary on stderr");
  app.add_flag("-v,--verbose", flags.verbose, "Say more on stderr");
  add_pattern_flags(app, flags.pattern);
}

std::string merged_overrides(const std::string& hf_overrides, const FixedPattern& pattern) {
  if (!pattern.active()) return hf_overrides;
  Json overrides = Json::object();
  if (!hf_overrides.empty()) overrides = Json::parse(hf_overrides, nullptr, /*allow_exceptions=*/false);
  if (!overrides.is_object()) throw UsageError("--hf-overrides: expected a JSON object");
  Json& section = overrides["index_fixed_pattern"];
  section = {{"window", pattern.window}, {"sinks", pattern.sinks}};
  section["stride"] = pattern.stride;
  section["stride_phase"] = pattern.stride_phase;
  section["stride_cap"] = pattern.stride_cap;
  section["mode"] = pattern.mode == FixedPattern::Mode::fill ? "fill" : "union";
  return overrides.dump();
}

std::filesystem::path model_directory(const std::string& model) {
  if (std::filesystem::is_directory(model)) return model;
  return std::filesystem::path(inspect_model(model).path).parent_path();
}

std::unique_ptr<Engine> load_engine(const EngineFlags& flags, bool show_progress) {
  EngineOptions options = flags.options;
  options.hf_overrides = merged_overrides(options.hf_overrides, flags.pattern);
  ProgressBar bar("loading", show_progress && !flags.quiet, ProgressUnit::bytes);
  options.load_progress = bar.callback();
  if (flags.notes && !flags.quiet) {
    options.log = [&bar](const std::string& line) {
      bar.wipe();
      print_note(line);
    };
  }
  auto engine = Engine::load(flags.model, options);
  bar.wipe();
  if (flags.verbose) {
    const ModelInfo& info = engine->info();
    print_note(fmt::format("{} from {}: {} layers, {} full, {} of weights; {}; cache in {}, {} positions",
                           info.family, info.directory, info.num_layers, info.full_layers.size(),
                           human_bytes(static_cast<double>(info.weight_bytes)), info.backend,
                           info.kv_cache_dtype, with_commas(info.ctx_size)));
  }
  return engine;
}

template <typename T>
void SamplingFlags::add(CLI::App& app, const std::string& names, T SamplingOptions::* field,
                        const std::string& help, T low, T high) {
  const std::string fallback = fmt::format("the model's, else {}", SamplingOptions{}.*field);
  add_number<T>(
      app, names,
      [this, field](T value) { given_.push_back([=](SamplingOptions& options) { options.*field = value; }); },
      help, {low, high}, fallback);
}

void SamplingFlags::add_to(CLI::App& app) {
  const FlagGroup group(app, "Sampling");
  using S = SamplingOptions;
  constexpr float kAny = std::numeric_limits<float>::max();
  add_number<int64_t>(
      app, "-n,--n-predict,--max-tokens", [this](int64_t value) { max_tokens_ = value; },
      "Tokens to generate at most (-1: as many as fit)", {-1, kMaxCount},
      fmt::format("the model's, else {}", SamplingOptions{}.max_tokens));
  add<float>(app, "--temp,--temperature", &S::temperature, "0: always the likeliest token", 0, kAny);
  add<int64_t>(app, "--top-k", &S::top_k, "Among the N likeliest tokens (0: off)", 0, kMaxCount);
  add<float>(app, "--top-p", &S::top_p, "Among the likeliest that make up this probability", 0, 1);
  add<float>(app, "--min-p", &S::min_p, "Among those at least so likely, relative to the likeliest", 0, 1);
  add<float>(app, "--repeat-penalty,--repetition-penalty", &S::repetition_penalty,
             "Divides the logits of tokens seen (1: off)", 0, kAny);
  add<float>(app, "--presence-penalty", &S::presence_penalty, "Taken off the logits of tokens generated",
             -kAny, kAny);
  add<float>(app, "--frequency-penalty", &S::frequency_penalty, "The same for each time they occurred", -kAny,
             kAny);
  add<uint64_t>(app, "-s,--seed", &S::seed, "The same seed gives the same text", 0, UINT64_MAX);
  add<int>(app, "--logprobs", &S::logprobs, "Log-probabilities of each token and the N likeliest (-1: none)",
           -1, 1 << 20);
  app.add_flag("--ignore-eos", ignore_eos_, "Go on after the end-of-text token");
  app.add_option("--stop", stop_, "End before this string; may be repeated")->type_name("TEXT");
  app.add_option_function<std::vector<std::string>>(
         "--logit-bias",
         [this](const std::vector<std::string>& entries) {
           for (const std::string& entry : entries) {
             const auto bias = parse_logit_bias(entry);
             given_.push_back([bias](S& options) { options.logit_bias[bias.first] = bias.second; });
           }
         },
         "ID=V adds V to a token's logit; may be repeated")
      ->type_name("ID=V");
  for (const char* name : {"--stop", "--logit-bias"}) {
    app.get_option(name)
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->allow_extra_args(false);
  }
}

SamplingOptions SamplingFlags::over(SamplingOptions options, int64_t room) const {
  for (const auto& set : given_) set(options);
  if (ignore_eos_) options.ignore_eos = true;
  options.stop.insert(options.stop.end(), stop_.begin(), stop_.end());
  if (max_tokens_ && *max_tokens_ >= 0) {
    options.max_tokens = *max_tokens_;
  } else {
    const int64_t wanted = max_tokens_ ? room : std::min(options.max_tokens, room);
    options.max_tokens = std::max<int64_t>(wanted, 1);
  }
  return options;
}

void add_text_flags(CLI::App& app, TextFlags& flags) {
  app.add_option("-p,--prompt", flags.text, "The text")->type_name("TEXT");
  app.add_option("-f,--file,--prompt-file", flags.file,
                 "Read the text from a file (-: standard input); with --prompt, the file comes first")
      ->type_name("FILE");
}

std::string read_file(const std::string& path) {
  const bool is_stdin = path == "-";
  std::FILE* file = is_stdin ? stdin : std::fopen(path.c_str(), "rb");
  const auto fail = [&] { throw UsageError(fmt::format("cannot read {}: {}", path, std::strerror(errno))); };
  if (file == nullptr) fail();
  std::string text;
  char block[1 << 16];
  size_t count = 0;
  while ((count = std::fread(block, 1, sizeof block, file)) > 0) text.append(block, count);
  const int error = std::ferror(file) ? errno : 0;
  if (!is_stdin) std::fclose(file);
  errno = error;
  if (error != 0) fail();
  return text;
}

std::string read_text(const TextFlags& flags) {
  if (!flags.text && !flags.file) throw UsageError("expected --prompt TEXT, --file FILE or both");
  std::string text = flags.file ? read_file(*flags.file) : "";
  if (flags.text && !text.empty() && text.back() != '\n') text += '\n';
  return text + flags.text.value_or("");
}

}  // namespace indexshare::cli
