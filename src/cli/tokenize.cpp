// SPDX-License-Identifier: Apache-2.0
// indexshare tokenize: text to token ids, or back.
#include <fmt/format.h>

#include <memory>

#include "exit_codes.h"
#include "flags.h"
#include "indexshare/tokenizer.h"
#include "options.h"
#include "verbs.h"

namespace indexshare::cli {
namespace {

struct Options {
  std::string model;
  TextFlags text;
  std::vector<int64_t> decode;
  bool special = false, no_add_special = false, count = false, json = false;
};

Json pieces_json(const Tokenizer& tokenizer, const std::vector<int32_t>& tokens) {
  Json pieces = Json::array();
  for (const int32_t token : tokens) pieces.push_back(tokenizer.token_text(token));
  return pieces;
}

int encode(const Tokenizer& tokenizer, const Options& options) {
  const SpecialTokens how = options.special ? SpecialTokens::parse : SpecialTokens::as_text;
  std::vector<int32_t> tokens = tokenizer.encode(read_text(options.text), how);
  if (!options.no_add_special) tokens = tokenizer.with_special_tokens(std::move(tokens));
  if (options.count && options.json) {
    print_json({{"schema_version", kSchemaVersion}, {"count", tokens.size()}});
  } else if (options.count) {
    print(fmt::format("{}\n", tokens.size()));
  } else if (options.json) {
    print_json({{"schema_version", kSchemaVersion},
                {"tokens", tokens},
                {"count", tokens.size()},
                {"pieces", pieces_json(tokenizer, tokens)}});
  } else {
    print(fmt::format("{}\n", fmt::join(tokens, " ")));
  }
  return kOk;
}

int decode(const Tokenizer& tokenizer, const Options& options) {
  std::vector<int32_t> tokens;
  for (const int64_t id : options.decode) {
    if (id >= tokenizer.vocab_size()) {
      throw UsageError(
          fmt::format("--decode: {} is no token, expected 0 to {}", id, tokenizer.vocab_size() - 1));
    }
    tokens.push_back(static_cast<int32_t>(id));
  }
  const std::string text = tokenizer.decode(tokens);
  if (options.json) {
    print_json({{"schema_version", kSchemaVersion}, {"text", text}, {"tokens", tokens}});
  } else {
    print(text + "\n");
  }
  return kOk;
}

std::filesystem::path directory_of(const std::string& model) {
  try {
    return model_directory(model);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::unsupported) throw;
    throw Error(error.code(), fmt::format("{} (a name is looked up by a config.json that can be run; "
                                          "a directory needs none)",
                                          error.what()));
  }
}

int run(const Options& options) {
  const Tokenizer tokenizer = Tokenizer::load(directory_of(options.model));
  return options.decode.empty() ? encode(tokenizer, options) : decode(tokenizer, options);
}

}  // namespace

Action add_tokenize(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  add_model_argument(app, options->model,
                     "Directory with a tokenizer.json, or org/name in the local HF cache");
  add_text_flags(app, options->text);
  app.add_flag("--special", options->special, "Let <|...|> in the text become special tokens");
  app.add_flag("--no-add-special", options->no_add_special,
               "Without the tokens that the model puts around a text, such as one that begins it");
  app.add_flag("--count", options->count, "Only how many tokens there are");
  add_number_list(app, "--decode", options->decode, "Print the text of these ids, separated by commas",
                  {0, INT32_MAX});
  for (const char* name : {"--prompt", "--file", "--special", "--no-add-special", "--count"}) {
    app.get_option("--decode")->excludes(app.get_option(name));
  }
  add_json_flag(app, options->json);
  return [options] { return run(*options); };
}

}  // namespace indexshare::cli
