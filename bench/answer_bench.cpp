// SPDX-License-Identifier: Apache-2.0
// answer_bench: how many questions about long texts a model answers, through the engine. Reads the file that
// training/write_questions.py writes, a JSON object a line:
//   {"text": [token, ...], "questions": [{"tokens": [token, ...], "answer": [token, ...]}, ...]}
// Each text is read once; its questions are asked in forks of that sequence, each as the first behind the
// text. An answer counts when each of its tokens and then an end token are the likeliest: greedy decoding
// says exactly it.
#include <fmt/format.h>
#include <indexshare/engine.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

namespace indexshare {
namespace {

using Tokens = std::vector<int32_t>;

struct Score {
  int right = 0, asked = 0;
};

/// The likeliest token behind each of the last `rows` of `tokens`, which continue `text`.
Tokens likeliest(Engine& engine, SequenceId text, const Tokens& tokens, size_t rows) {
  Tokens best;
  EvaluateOptions options;
  options.sink = [&](int64_t, std::span<const float> logits) {
    best.push_back(static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin()));
  };
  const SequenceId sequence = engine.fork(text);
  engine.evaluate(sequence, tokens, options);
  engine.release(sequence);
  best.erase(best.begin(), best.end() - static_cast<std::ptrdiff_t>(rows));
  return best;
}

bool answers(Engine& engine, SequenceId text, const Tokens& question, const Tokens& answer, bool misses) {
  Tokens tokens = question;
  tokens.insert(tokens.end(), answer.begin(), answer.end());
  const Tokens said = likeliest(engine, text, tokens, answer.size() + 1);
  const std::vector<int32_t>& ends = engine.info().eos_token_ids;
  const bool right = std::equal(answer.begin(), answer.end(), said.begin()) &&
                     std::ranges::find(ends, said.back()) != ends.end();
  if (!right && misses) {
    const auto decode = [&](const Tokens& part) { return engine.tokenizer().decode(part); };
    fmt::print("{}\n  wanted{}\n  likeliest after each token of it:{}\n", decode(question), decode(answer),
               decode(said));
  }
  return right;
}

Score ask_all(Engine& engine, const std::string& file, bool misses) {
  std::ifstream lines(file);
  if (!lines) throw std::runtime_error(fmt::format("{}: cannot be read", file));
  Score score;
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    try {
      const auto group = nlohmann::json::parse(line);
      const SequenceId text = engine.create_sequence();
      engine.evaluate(text, group.at("text").get<Tokens>(), {.all_rows = false});
      for (const auto& question : group.at("questions")) {
        score.right += answers(engine, text, question.at("tokens").get<Tokens>(),
                               question.at("answer").get<Tokens>(), misses);
        ++score.asked;
      }
      engine.release(text);
    } catch (const nlohmann::json::exception& error) {
      throw std::runtime_error(fmt::format("{}: line {}: {}", file, number, error.what()));
    }
  }
  return score;
}

int run(int argc, char** argv) {
  std::string model, plan = "shared";
  std::vector<std::string> files;
  bool misses = false;
  EngineOptions options;
  CLI::App app("Counts the questions about long texts that a model answers exactly");
  app.add_option("model", model, "directory in Hugging Face's format")->required();
  app.add_option("questions", files, "files written by training/write_questions.py")->required();
  app.add_option("--plan", plan, "who runs an indexer, or dense attention")
      ->check(CLI::IsMember({"shared", "every_layer", "dense"}));
  app.add_flag("--misses", misses, "print the questions missed");
  app.add_option("--ctx-size", options.ctx_size, "tokens of the longest text with a question");
  app.add_option("--threads", options.threads, "0 = what the process may use");
  CLI11_PARSE(app, argc, argv);
  if (plan == "every_layer") options.plan = PlanChoice::every_layer;
  if (plan == "dense") options.attention = AttentionMode::dense;
  const auto engine = Engine::load(model, options);
  for (const std::string& file : files) {
    const Score score = ask_all(*engine, file, misses);
    fmt::print("{}: {} of {} right, {}\n", file, score.right, score.asked, plan);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace
}  // namespace indexshare

int main(int argc, char** argv) {
  try {
    return indexshare::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "answer_bench: {}\n", error.what());
    return 1;
  }
}
