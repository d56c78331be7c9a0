// SPDX-License-Identifier: Apache-2.0
// The text that is analyzed: cut to a number of tokens, with a passage planted and a question asked.
#include <fmt/format.h>

#include <algorithm>

#include "analyze.h"
#include "exit_codes.h"

namespace indexshare::cli {
namespace {

constexpr size_t kMaxTokenBytes = 64;  // so much of a huge file is read for each token wanted

// The first `limit` tokens of the file.
std::vector<int32_t> first_tokens(const std::string& path, const Tokenizer& tokenizer, int64_t limit) {
  std::string text = read_nonempty_file("--text", path);
  size_t length = std::min(text.size(), static_cast<size_t>(limit) * kMaxTokenBytes);
  while (length > 0 && length < text.size() && (text[length] & 0xC0) == 0x80)
    --length;  // not inside a character
  text.resize(length);
  std::vector<int32_t> tokens = tokenizer.encode(text, SpecialTokens::as_text);
  tokens.resize(std::min(tokens.size(), static_cast<size_t>(limit)));
  return tokens;
}

// On a line of its own behind the line end next to `depth` of the text, or else behind the next space.
std::string planted(const std::string& text, const std::string& line, double depth) {
  const auto wanted = static_cast<size_t>(depth * static_cast<double>(text.size()));
  size_t at = text.find('\n', wanted);
  if (at == std::string::npos) at = text.find(' ', wanted);
  at = at == std::string::npos ? text.size() : at + 1;
  const std::string head = text.substr(0, at), tail = text.substr(at);
  return head + (head.empty() || head.back() == '\n' ? "" : "\n") + line + "\n" + tail;
}

std::vector<int32_t> as_prompt(const std::string& text, const std::string& question,
                               const Tokenizer& tokenizer, const std::string& model_directory) {
  const std::string content = text + "\n\n" + question;
  try {
    const ChatMessage message{.role = "user", .content = content};
    return tokenizer.encode(ChatTemplate::load(model_directory).render({&message, 1}));
  } catch (const Error& error) {
    if (error.code() != ErrorCode::not_found) throw;
    return tokenizer.with_special_tokens(tokenizer.encode(content, SpecialTokens::as_text));
  }
}

}  // namespace

AnalyzedText read_analyzed_text(const AnalyzeOptions& options, const Tokenizer& tokenizer,
                                const std::string& model_directory) {
  AnalyzedText result;
  result.tokens = first_tokens(options.text_file, tokenizer, options.context);
  if (options.plant || options.question) {
    std::string text = tokenizer.decode(result.tokens);
    if (options.plant) text = planted(text, *options.plant, options.needle_depth);
    result.tokens = options.question ? as_prompt(text, *options.question, tokenizer, model_directory)
                                     : tokenizer.encode(text, SpecialTokens::as_text);
  }
  if (!options.question) result.tokens = tokenizer.with_special_tokens(std::move(result.tokens));
  result.needle = options.plant.value_or(options.needle.value_or(""));
  result.needle_at = find_needle(tokenizer, result.tokens, result.needle);
  if ((options.needle || options.plant) && result.needle_at.empty()) {
    throw UsageError(fmt::format("{}: expected text that occurs in the first {} tokens of {}, found \"{}\"",
                                 options.plant ? "--plant" : "--needle", options.context, options.text_file,
                                 result.needle));
  }
  return result;
}

std::vector<std::vector<int32_t>> read_windows(const AnalyzeOptions& options, const Tokenizer& tokenizer) {
  const int64_t wanted = options.windows * options.context;
  const std::vector<int32_t> tokens = first_tokens(options.text_file, tokenizer, wanted);
  const auto num_tokens = static_cast<int64_t>(tokens.size());
  if (options.windows > 1 && num_tokens < wanted) {
    throw UsageError(fmt::format("--windows: {} of {} tokens need a text of {}, {} has {}", options.windows,
                                 with_commas(options.context), with_commas(wanted), options.text_file,
                                 with_commas(num_tokens)));
  }
  std::vector<std::vector<int32_t>> windows;
  for (int64_t begin = 0; begin < num_tokens; begin += options.context) {
    const auto end = std::min(begin + options.context, num_tokens);
    windows.push_back(tokenizer.with_special_tokens({tokens.begin() + begin, tokens.begin() + end}));
  }
  return windows;
}

}  // namespace indexshare::cli
