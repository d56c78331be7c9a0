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

constexpr const char* kPatternSection = "index_fixed_pattern";
// A JSON merge patch that removes every field of that section.
const Json kNoPattern = {{"window", nullptr},       {"sinks", nullptr},      {"stride", nullptr},
                         {"stride_phase", nullptr}, {"stride_cap", nullptr}, {"mode", nullptr}};

// "ID=V"
std::pair<int32_t, float> parse_logit_bias(const std::string& entry) {
  const size_t equals = entry.find('=');
  if (equals == std::string::npos) {
    throw CLI::ValidationError("--logit-bias", fmt::format("expected ID=V, got \"{}\"", entry));
  }
  return {parse_number<int32_t>("--logit-bias", entry.substr(0, equals), {0, INT32_MAX}),
          parse_number<float>("--logit-bias", entry.substr(equals + 1), {-1e6f, 1e6f})};
}

[[noreturn]] void refuse_empty(const std::string& flag, const std::string& path) {
  throw UsageError(fmt::format("{}: {}: expected text, found an empty file", flag, path));
}

std::filesystem::path config_file(const std::string& model) {
  if (std::filesystem::is_directory(model)) return std::filesystem::path(model) / "config.json";
  return inspect_model(model).path;
}

// The section of the model's own config.json; null where there is none. What is malformed the library names.
Json section_of_config(const std::string& model) {
  const std::string text = read_file(config_file(model).string());
  const Json config = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  return config.is_object() ? config.value(kPatternSection, Json()) : Json();
}

int64_t number(const Json& section, const char* field, int64_t fallback) {
  const auto found = section.find(field);
  return found != section.end() && found->is_number_integer() ? found->get<int64_t>() : fallback;
}

// --stride-phase, --stride-cap and --pattern-mode mean nothing without what they refine.
void refuse_refinements_of_nothing(const Json& given, const Json& overrides, const std::string& model) {
  const char* phase_or_cap = given.contains("stride_phase") ? "--stride-phase"
                             : given.contains("stride_cap") ? "--stride-cap"
                                                            : nullptr;
  if (phase_or_cap == nullptr && !given.contains("mode")) return;
  const auto strided = [](const Json& section) { return number(section, "stride", 0) > 0; };
  const auto active = [&](const Json& section) {
    return strided(section) || number(section, "window", 0) > 0 || number(section, "sinks", 0) > 0;
  };
  if (phase_or_cap == nullptr ? active(overrides) : strided(overrides)) return;
  Json section = section_of_config(model);
  section.merge_patch(overrides);
  if (phase_or_cap != nullptr && !strided(section)) {
    throw UsageError(fmt::format("{} needs --stride: there is no stride", phase_or_cap));
  }
  if (!active(section)) throw UsageError("--pattern-mode needs a --window, --sinks or --stride");
}

}  // namespace

void add_model_argument(CLI::App& app, std::string& model, const std::string& help) {
  app.add_option("MODEL,-m,--model", model, help)->required()->type_name("");
}

void add_json_flag(CLI::App& app, bool& json) { app.add_flag("--json", json, "One JSON object on stdout"); }

void add_config_flags(CLI::App& app, EngineOptions& options, const CacheDefaults& defaults) {
  app.add_option("--hf-overrides", options.hf_overrides,
                 "JSON object laid over config.json, e.g. '{\"index_topk_pattern\":\"FSSS\"}'")
      ->type_name("JSON")
      ->multi_option_policy(CLI::MultiOptionPolicy::Throw);  // the last of two would hide the first
  add_cache_flags(app, options, defaults);
}

void add_cache_flags(CLI::App& app, EngineOptions& options, const CacheDefaults& defaults) {
  const std::vector<Choice<std::string>> formats = {
      {"auto", "auto"}, {"f32", "f32"}, {"bf16", "bf16"}, {"int8", "int8"}};
  add_choice<std::string>(app, "--kv-cache-dtype", options.kv_cache_dtype,
                          "Latent rows of the cache; auto: " + defaults.latents, formats);
  add_choice<std::string>(app, "--index-cache-dtype", options.index_cache_dtype,
                          "Index keys of the cache; auto: " + defaults.index_keys, formats);
}

void add_activation_flag(CLI::App& app, EngineOptions& options) {
  add_choice<int>(app, "--activation-bits", options.activation_bits,
                  "How finely activations enter products; 0: 32 for f32 and f16 weights, else 16",
                  {{"0", 0}, {"8", 8}, {"16", 16}, {"32", 32}});
}

void add_pattern_flags(CLI::App& app, PatternFlags& flags) {
  const FlagGroup group(app, "Positions attended whatever the index says (else as config.json has it)");
  const auto add = [&](const char* name, const char* field, const char* help) {
    const auto take = [&flags, field](int64_t value) { flags.given[field] = value; };
    add_number<int64_t>(app, name, take, help, {0, INT32_MAX}, "");
  };
  add("--window", "window", "Always attend the last N positions (0: off)");
  add("--sinks", "sinks", "Always attend the first N positions (0: off)");
  add("--stride", "stride", "Always attend every N-th position (0: off)");
  add("--stride-phase", "stride_phase", "The strided positions are congruent to N");
  add("--stride-cap", "stride_cap", "At most the latest N strided positions (0: all)");
  const auto take = [&flags](const std::string& word) {
    if (word != "fill" && word != "union") {
      throw CLI::ValidationError("--pattern-mode", fmt::format("expected fill or union, got \"{}\"", word));
    }
    flags.given["mode"] = word;
  };
  app.add_option_function<std::string>(
         "--pattern-mode", take,
         "Top-k among the other positions (fill), or among all and then merged (union)")
      ->type_name("fill|union");
}

void add_engine_flags(CLI::App& app, EngineFlags& flags, bool with_plan) {
  add_model_argument(app, flags.model,
                     "Directory in Hugging Face's format, or org/name in the local HF cache");
  const FlagGroup group(app, "Engine");
  EngineOptions& options = flags.options;
  add_number(app, "-t,--threads", options.threads, "Threads (0: what affinity and cgroup allow)", {0, 4096});
  add_number<int64_t>(app, "-c,--ctx-size,--max-model-len", options.ctx_size,
                      "Positions of cache (0: the model's maximum)", {0, INT32_MAX});
  add_number<int64_t>(app, "-b,--batch-size,--chunk-size", options.chunk_size, "Tokens of one forward pass",
                      {1, 65536});
  add_choice<std::string>(app, "--backend", options.backend, "What computes",
                          {{"cpu", "cpu"}, {"reference", "reference"}, {"cuda", "cuda"}});
  add_config_flags(app, options, kEngineCacheDefaults);
  add_choice<std::string>(app, "--weights", options.weights,
                          "Quantise weights while loading; auto: as stored",
                          {{"auto", "auto"}, {"int8", "int8"}, {"int4", "int4"}});
  add_activation_flag(app, options);
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

std::string merged_overrides(const std::string& hf_overrides, const PatternFlags& pattern,
                             const std::string& model) {
  if (pattern.given.empty()) return hf_overrides;
  Json overrides = Json::object();
  if (!hf_overrides.empty()) overrides = Json::parse(hf_overrides, nullptr, /*allow_exceptions=*/false);
  if (!overrides.is_object()) throw UsageError("--hf-overrides: expected a JSON object");
  const bool removed = overrides.contains(kPatternSection) && overrides[kPatternSection].is_null();
  Json& section = overrides[kPatternSection];
  if (removed) section = kNoPattern;  // null takes the config's section away: so do these, field by field
  if (!section.is_null() && !section.is_object()) {
    throw UsageError(fmt::format("--hf-overrides: {}: expected an object", kPatternSection));
  }
  section.merge_patch(pattern.given);
  refuse_refinements_of_nothing(pattern.given, section, model);
  if (number(pattern.given, "stride", 1) == 0) section["stride_phase"] = section["stride_cap"] = 0;
  return overrides.dump();
}

std::filesystem::path model_directory(const std::string& model) {
  if (std::filesystem::is_directory(model)) return model;
  return config_file(model).parent_path();
}

std::unique_ptr<Engine> load_engine(const EngineFlags& flags, bool show_progress) {
  EngineOptions options = flags.options;
  if (options.attention == AttentionMode::dense && !flags.pattern.given.empty()) {
    throw UsageError("--attention dense attends every position: no fixed pattern can be added to it");
  }
  options.hf_overrides = merged_overrides(options.hf_overrides, flags.pattern, flags.model);
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
    print_note(
        fmt::format("{} from {}: {} layers, {} full, {} of weights, most in {} with {}-bit activations; {}; "
                    "latents in {}, "
                    "index keys in {}, {} positions",
                    info.family, info.directory, info.num_layers, info.full_layers.size(),
                    human_bytes(static_cast<double>(info.weight_bytes)), info.weights, info.activation_bits,
                    info.backend, info.kv_cache_dtype, info.index_cache_dtype, with_commas(info.ctx_size)));
  }
  return engine;
}

template <typename T>
void SamplingFlags::add(CLI::App& app, const std::string& names, T SamplingOptions::* field,
                        const std::string& help, Range<T> range) {
  const std::string fallback = fmt::format("the model's, else {}", SamplingOptions{}.*field);
  add_number<T>(
      app, names,
      [this, field](T value) { given_.push_back([=](SamplingOptions& options) { options.*field = value; }); },
      help, range, fallback);
}

void SamplingFlags::add_to(CLI::App& app) {
  const FlagGroup group(app, "Sampling");
  using S = SamplingOptions;
  const auto take_max_tokens = [this](int64_t value) {
    if (value == 0) throw CLI::ValidationError("--max-tokens", "expected at least 1, or -1, got 0");
    max_tokens_ = value;
  };
  add_number<int64_t>(app, "-n,--n-predict,--max-tokens", take_max_tokens,
                      "Tokens to generate at most (-1: as many as fit)", {-1, kMaxCount},
                      fmt::format("the model's, else {}", SamplingOptions{}.max_tokens));
  // What the engine accepts, see validate(): said here, it costs no loading.
  add<float>(app, "--temp,--temperature", &S::temperature, "0: always the likeliest token", {0, 100});
  add<int64_t>(app, "--top-k", &S::top_k, "Among the N likeliest tokens (0: off)", {0, INT64_MAX});
  add<float>(app, "--top-p", &S::top_p, "Among the likeliest that make up this probability", {0, 1, true});
  add<float>(app, "--min-p", &S::min_p, "Among those at least so likely, relative to the likeliest", {0, 1});
  add<float>(app, "--repeat-penalty,--repetition-penalty", &S::repetition_penalty,
             "Divides the logits of tokens seen (1: off)", {0, 100, true});
  add<float>(app, "--presence-penalty", &S::presence_penalty, "Taken off the logits of tokens generated",
             {-100, 100});
  add<float>(app, "--frequency-penalty", &S::frequency_penalty, "The same for each time they occurred",
             {-100, 100});
  add<uint64_t>(app, "-s,--seed", &S::seed, "The same seed gives the same text", {});
  add<int>(app, "--logprobs", &S::logprobs, "Log-probabilities of each token and the N likeliest (-1: none)",
           {-1, INT32_MAX});
  app.add_flag("--ignore-eos", ignore_eos_, "Go on after the end-of-text token");
  app.add_option_function<std::vector<std::string>>(
         "--stop",
         [this](const std::vector<std::string>& strings) {
           if (std::ranges::find(strings, "") != strings.end()) {
             throw CLI::ValidationError("--stop", "expected at least one byte, got an empty string");
           }
           stop_ = strings;
         },
         "End before this string; may be repeated")
      ->type_name("TEXT");
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

std::string read_nonempty_file(const std::string& flag, const std::string& path) {
  std::string text = read_file(path);
  if (text.empty()) refuse_empty(flag, path);
  return text;
}

std::string read_text(const TextFlags& flags) {
  if (!flags.text && !flags.file) throw UsageError("expected --prompt TEXT, --file FILE or both");
  std::string text = flags.file ? read_file(*flags.file) : "";
  if (flags.text && !text.empty() && text.back() != '\n') text += '\n';
  return text + flags.text.value_or("");
}

std::string read_prompt(const TextFlags& flags) {
  std::string text = read_text(flags);
  if (text.empty() && flags.file) refuse_empty("--file", *flags.file);
  return text;
}

}  // namespace indexshare::cli
