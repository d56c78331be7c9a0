// SPDX-License-Identifier: Apache-2.0
// Text to tokens and back, and the chat template of a model. All const members may be called from many
// threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "indexshare/error.h"

namespace indexshare {

/// What becomes of "<|user|>" and its like in a text that is encoded.
enum class SpecialTokens {
  as_text,  // text from users: no added token is recognised, "<|user|>" becomes ordinary tokens
  parse,    // trusted text: added tokens are recognised as Hugging Face tokenizers does
};

/// A stretch of a prompt. Only where is_template is set can text become added tokens.
struct TextSegment {
  std::string text;
  bool is_template = false;
};

/// Byte-level BPE as a tokenizer.json describes it. Copies share the loaded tables.
class Tokenizer {
 public:
  /// Reads `model_dir`/tokenizer.json. Throws Error{not_found} where there is none and Error{unsupported} for
  /// what is malformed or not byte-level BPE.
  static Tokenizer load(const std::filesystem::path& model_dir);
  /// The same from the text of a tokenizer.json; `name` stands for the file in messages.
  static Tokenizer from_json(std::string_view json, const std::string& name);

  /// No token is added in front or behind (see with_special_tokens). Invalid UTF-8 is read as U+FFFD. Throws
  /// Error{unsupported} where the model's splitting pattern needs too many steps on this text.
  std::vector<int32_t> encode(std::string_view text, SpecialTokens how) const;
  /// The segments as one text: words may span segments, added tokens are recognised inside template text
  /// only.
  std::vector<int32_t> encode(std::span<const TextSegment> segments) const;
  /// What the model puts around a plain text, such as a token that begins it, as tokenizer.json says.
  std::vector<int32_t> with_special_tokens(std::vector<int32_t> tokens) const;

  /// Invalid UTF-8 becomes U+FFFD; ids outside the vocabulary are skipped.
  std::string decode(std::span<const int32_t> tokens, bool skip_special = false) const;

  /// Largest id + 1, added tokens included. A model's embedding may have more rows, never fewer.
  int64_t vocab_size() const;
  /// The token spelled so in tokenizer.json, e.g. "<|user|>" or "Ġthe".
  std::optional<int32_t> token_id(std::string_view spelling) const;
  /// The bytes a token stands for, perhaps a part of a character. Throws Error{invalid_argument} for an
  /// unknown id, as the next two do.
  std::string token_bytes(int32_t token) const;
  /// token_bytes with U+FFFD for what is not valid UTF-8.
  std::string token_text(int32_t token) const;
  bool is_special(int32_t token) const;

  struct State;
  explicit Tokenizer(std::shared_ptr<const State> state);

 private:
  friend class StreamDecoder;
  std::shared_ptr<const State> state_;
};

/// Decodes tokens as they come. The concatenation of all pieces equals Tokenizer::decode of all tokens.
class StreamDecoder {
 public:
  explicit StreamDecoder(Tokenizer tokenizer, bool skip_special = false);

  /// Every character that is now complete; "" while a character is still partial.
  std::string push(int32_t token);
  /// The rest, an unfinished character as U+FFFD; the decoder is then as new.
  std::string flush();

 private:
  Tokenizer tokenizer_;
  bool skip_special_;
  std::string pending_;  // at most three bytes: the beginning of a character
};

struct ChatMessage {
  std::string role;     // "system", "user", "assistant", "tool"
  std::string content;  // never becomes special tokens
  /// Further members of the message as a JSON object, e.g. {"reasoning_content": "..."}; "" for none.
  /// "content" and "role" in it replace the two above.
  std::string extra_json = {};
};

struct ChatOptions {
  bool add_generation_prompt = true;
  std::string tools_json = {};  // a JSON array of tools, "" for none
  std::string kwargs_json =
      {};  // a JSON object of further template variables, e.g. {"enable_thinking": false}
};

/// The chat template of a model: the part of Jinja that such templates use, within fixed budgets of steps,
/// output and recursion. Output equals that of Hugging Face transformers.
class ChatTemplate {
 public:
  /// Takes the template from `override_file` if given, else from `model_dir`/chat_template.jinja, else from
  /// chat_template in tokenizer_config.json, which also names bos_token, eos_token and the like.
  /// Throws Error{not_found} where the model has no template, Error{unsupported} for a syntax error, with its
  /// line.
  static ChatTemplate load(const std::filesystem::path& model_dir,
                           const std::optional<std::filesystem::path>& override_file = std::nullopt);
  /// A template from memory; `special_tokens_json` is an object such as {"bos_token": "<s>"}, or "".
  static ChatTemplate from_text(std::string_view source, const std::string& name,
                                std::string_view special_tokens_json = "");

  /// The prompt, with every byte that came from a message, a tool or a keyword argument kept apart from the
  /// template's own text: hand it to Tokenizer::encode. Roles made of letters, digits, '_' and '-' count as
  /// template. Throws Error{invalid_argument} where the template itself refuses (raise_exception) or an
  /// option is malformed, and Error{unsupported} where the template is at fault, with its line.
  std::vector<TextSegment> render(std::span<const ChatMessage> messages,
                                  const ChatOptions& options = {}) const;
  /// The same as one string.
  std::string render_text(std::span<const ChatMessage> messages, const ChatOptions& options = {}) const;

  struct State;
  explicit ChatTemplate(std::shared_ptr<const State> state);

 private:
  std::shared_ptr<const State> state_;
};

}  // namespace indexshare
