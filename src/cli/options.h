// SPDX-License-Identifier: Apache-2.0
// The flags that several verbs share, each declared once: MODEL and how to load it, sampling, where text
// comes from.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "flags.h"
#include "indexshare/engine.h"
#include "terminal.h"

namespace indexshare::cli {

/// The flags of FixedPattern that were given, as fields of the config section index_fixed_pattern.
struct PatternFlags {
  Json given = Json::object();
};

/// MODEL, the engine's options and how much is said on the way.
struct EngineFlags {
  std::string model;
  EngineOptions options;
  PatternFlags pattern;
  bool quiet = false, verbose = false;
  bool notes = true;  // pass on the library's remarks
};

/// @param with_plan false where the verb has a --plan of its own.
void add_engine_flags(CLI::App& app, EngineFlags& flags, bool with_plan = true);
void add_model_argument(CLI::App& app, std::string& model, const std::string& help);
/// What "auto" means to the verb, for --help.
struct CacheDefaults {
  std::string latents, index_keys;
};
inline const CacheDefaults kEngineCacheDefaults = {"f32 for f32 weights, else bf16",
                                                   "f32 beside f32 latents, else int8"};
void add_cache_flags(CLI::App& app, EngineOptions& options, const CacheDefaults& defaults);
/// --hf-overrides and the caches' formats, which `inspect` shares with the others.
void add_config_flags(CLI::App& app, EngineOptions& options, const CacheDefaults& defaults);
void add_activation_flag(CLI::App& app, EngineOptions& options);
/// The positions that are always attended (FixedPattern).
void add_pattern_flags(CLI::App& app, PatternFlags& flags);
void add_json_flag(CLI::App& app, bool& json);

/// --hf-overrides with the pattern flags laid over it: what no flag names stays as the config has it.
/// @throws UsageError where it is no JSON object, or where a flag refines a pattern that there is not.
std::string merged_overrides(const std::string& hf_overrides, const PatternFlags& pattern,
                             const std::string& model);

/// Where the files of MODEL are, for a verb that needs some of them alone. @throws Error{not_found}.
std::filesystem::path model_directory(const std::string& model);

/// Loads with a bar of bytes on a terminal; the library's remarks become notes unless --quiet.
std::unique_ptr<Engine> load_engine(const EngineFlags& flags, bool show_progress);

/// Sampling flags that were given; the others keep what the model's generation_config.json says.
class SamplingFlags {
 public:
  void add_to(CLI::App& app);
  /// @param room tokens that still fit the context behind the prompt: the limit where -1 or nothing was asked
  /// for.
  SamplingOptions over(SamplingOptions defaults, int64_t room) const;

 private:
  template <typename T>
  void add(CLI::App& app, const std::string& names, T SamplingOptions::* field, const std::string& help,
           Range<T> range);

  std::vector<std::function<void(SamplingOptions&)>> given_;
  std::vector<std::string> stop_;
  bool ignore_eos_ = false;
  std::optional<int64_t> max_tokens_;
};

/// Where the text comes from: a file, the command line, or both, the file first.
struct TextFlags {
  std::optional<std::string> text, file;
};

void add_text_flags(CLI::App& app, TextFlags& flags);
/// @throws UsageError where neither was given or the file cannot be read.
std::string read_text(const TextFlags& flags);
/// The same for what has to say something: an empty file with nothing beside it is refused.
std::string read_prompt(const TextFlags& flags);
/// Reads a whole file, "-" being standard input. @throws UsageError.
std::string read_file(const std::string& path);
/// The same of a file that `flag` names; an empty one is refused.
std::string read_nonempty_file(const std::string& flag, const std::string& path);

}  // namespace indexshare::cli
