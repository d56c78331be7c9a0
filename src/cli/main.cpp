// SPDX-License-Identifier: Apache-2.0
// The program: picks the verb, reads its flags, runs it, and turns whatever goes wrong into one sentence on
// stderr and an exit code.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "exit_codes.h"
#include "indexshare/error.h"
#include "interrupt.h"
#include "suggestion.h"
#include "terminal.h"
#include "verbs.h"

namespace indexshare::cli {
namespace {

using Arguments = std::vector<std::string>;

struct Verb {
  const char* name;
  const char* summary;
  Action (*add)(CLI::App& app, const Arguments& arguments);
};

template <Action (*add)(CLI::App&)>
Action without_arguments(CLI::App& app, const Arguments&) {
  return add(app);
}

constexpr Verb kVerbs[] = {
    {"generate", "Continue a prompt", without_arguments<add_generate>},
    {"chat", "Converse, turn by turn", without_arguments<add_chat>},
    {"inspect", "Layers, share plan, cache bytes and FLOPs of a model or of a config.json alone",
     without_arguments<add_inspect>},
    {"bench", "Tokens per second against context length, shared against every layer", add_bench},
    {"analyze", "What sharing changes on a text: overlap, coverage, KL; a search for a plan", add_analyze},
    {"perplexity", "How well a model predicts a text", without_arguments<add_perplexity>},
    {"logits", "Logits of every position of a token sequence, to a .npy file", without_arguments<add_logits>},
    {"quantize", "Write a model with int8 or int4 weights, and compare it with the original",
     without_arguments<add_quantize>},
    {"tokenize", "Text to token ids, or back", without_arguments<add_tokenize>},
};

std::string usage() {
  std::string text = "indexshare " INDEXSHARE_VERSION
                     ": inference for DeepSeek Sparse Attention with shared indices\n\n"
                     "Usage: indexshare VERB [MODEL] [FLAGS]      indexshare VERB --help says more\n\n";
  for (const Verb& verb : kVerbs) text += fmt::format("  {:<11} {}\n", verb.name, verb.summary);
  text += "\nMODEL is a directory in Hugging Face's format, or org/name in the local HF cache.\n";
  text += "Exit codes: 0 done, 1 failed, 2 usage, 3 bad model, 4 out of memory or device, 130 interrupted.\n";
  return text;
}

const Verb& find_verb(const std::string& name) {
  Arguments known = {"--help", "--version"};
  for (const Verb& verb : kVerbs) {
    if (name == verb.name) return verb;
    known.push_back(verb.name);
  }
  const char* what = name.starts_with("-") ? "flag" : "verb";
  throw UsageError(fmt::format("unknown {} {}{}", what, name, suggestion(name, known)));
}

Arguments flag_names(const CLI::App& app) {
  Arguments names;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    for (const std::string& name : option->get_snames()) names.push_back("-" + name);
  }
  return names;
}

// An unknown flag is named first even where something else is wrong too: often it is the cause.
std::string explain(const CLI::App& app, const CLI::ParseError& error) {
  const Arguments left = app.remaining();
  const auto flag =
      std::find_if(left.begin(), left.end(), [](const auto& word) { return word.starts_with("-"); });
  if (flag != left.end()) {
    const std::string name = flag->substr(0, flag->find('='));
    return fmt::format("unknown flag {}{}", name, suggestion(name, flag_names(app)));
  }
  if (!left.empty()) return fmt::format("unexpected argument \"{}\"", left.front());
  const std::string message = error.what();
  for (const auto& [required, argument] : {std::pair{"--model ", "MODEL "}, {"--out ", "OUT "}})
    if (message.starts_with(std::string(required) + "is required"))
      return argument + message.substr(std::strlen(required));
  return message;
}

/// --help with each default in brackets behind the description.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(40); }
  std::string make_option_opts(const CLI::Option* option) const override {
    return option->get_type_name().empty() ? "" : " " + option->get_type_name();
  }
  std::string make_option_desc(const CLI::Option* option) const override {
    const std::string fallback = option->get_default_str();
    return option->get_description() + (fallback.empty() ? "" : " [" + fallback + "]");
  }
};

int run_verb(const Verb& verb, const Arguments& arguments) {
  CLI::App app(verb.summary, std::string("indexshare ") + verb.name);
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.formatter(std::make_shared<HelpFormatter>());
  const Action action = verb.add(app, arguments);
  try {
    app.parse(Arguments(arguments.rbegin(), arguments.rend()));  // CLI11 wants them reversed
  } catch (const CLI::CallForHelp&) {
    print(app.help());
    return kOk;
  } catch (const CLI::ParseError& error) {
    throw UsageError(fmt::format("{}; see indexshare {} --help", explain(app, error), verb.name));
  }
  return action();
}

int run(const Arguments& arguments) {
  if (arguments.empty()) {
    fmt::print(stderr, "{}", usage());
    return kUsage;
  }
  const std::string& first = arguments.front();
  if (first == "--help" || first == "-h" || first == "help") {
    print(usage());
    return kOk;
  }
  if (first == "--version") {
    print("indexshare " INDEXSHARE_VERSION "\n");
    return kOk;
  }
  return run_verb(find_verb(first), Arguments(arguments.begin() + 1, arguments.end()));
}

int run_and_report(const Arguments& arguments) {
  try {
    return run(arguments);
  } catch (const Interrupted&) {
    return kInterrupted;
  } catch (const UsageError& error) {
    print_error(error.what());
    return kUsage;
  } catch (const Error& error) {
    print_error(error.what());
    return exit_code(error.code());
  } catch (const std::bad_alloc&) {
    print_error("out of memory");
    return kOutOfResource;
  } catch (const std::exception& error) {
    print_error(error.what());
    return kRuntimeFailure;
  }
}

}  // namespace
}  // namespace indexshare::cli

int main(int argc, char** argv) {
  indexshare::cli::install_signal_handlers();
  return indexshare::cli::run_and_report({argv + 1, argv + argc});
}
