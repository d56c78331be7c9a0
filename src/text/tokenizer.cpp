// SPDX-License-Identifier: Apache-2.0
#include "indexshare/tokenizer.h"

#include "base/check.h"
#include "text/tokenizer_state.h"
#include "text/unicode.h"

namespace indexshare {

namespace {

constexpr JsonLimits kTokenizerLimits{.max_bytes = 100'000'000, .max_depth = 64, .max_values = 2'000'000};

// Words longer than a 32-bit index can count do not occur in any text this may be asked to encode.
constexpr size_t kMaxTextBytes = size_t{1} << 30;

}  // namespace

Tokenizer::Tokenizer(std::shared_ptr<const State> state) : state_(std::move(state)) {}

Tokenizer Tokenizer::load(const std::filesystem::path& model_dir) {
  const auto path = model_dir / "tokenizer.json";
  return Tokenizer(read_tokenizer(read_json_file(path, kTokenizerLimits), path.string()));
}

Tokenizer Tokenizer::from_json(std::string_view json, const std::string& name) {
  return Tokenizer(read_tokenizer(parse_json(json, name, kTokenizerLimits), name));
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, SpecialTokens how) const {
  const TextSegment segment{std::string(text), how == SpecialTokens::parse};
  return encode(std::span(&segment, 1));
}

std::vector<int32_t> Tokenizer::encode(std::span<const TextSegment> segments) const {
  std::string text;
  std::vector<AddedTokens::Span> allowed;
  for (const TextSegment& segment : segments) {
    const size_t begin = text.size();
    text += to_valid_utf8(segment.text);
    if (segment.is_template && text.size() > begin) {
      if (!allowed.empty() && allowed.back().end == begin) {
        allowed.back().end = text.size();
      } else {
        allowed.push_back({begin, text.size()});
      }
    }
  }
  if (text.size() > kMaxTextBytes)
    fail(ErrorCode::invalid_argument, "text to encode: expected at most {} bytes, found {}", kMaxTextBytes,
         text.size());
  // Where all is template, even merges may make special tokens, as in Hugging Face's encode.
  const bool allow_special = !allowed.empty() && allowed[0].begin == 0 && allowed[0].end == text.size();
  std::vector<int32_t> tokens;
  RegexScratch regex_scratch;
  BytePairModel::Scratch scratch;
  const auto encode_word = [&](std::string_view word) {
    state_->model.encode(word, allow_special, scratch, tokens);
  };
  const std::string_view view = text;
  for (const AddedTokens::Piece& piece : state_->added.split(view, allowed, regex_scratch)) {
    if (piece.id >= 0) {
      tokens.push_back(piece.id);
    } else {
      state_->pre_tokenizer.split(view.substr(piece.begin, piece.end - piece.begin), regex_scratch,
                                  encode_word);
    }
  }
  return tokens;
}

std::vector<int32_t> Tokenizer::with_special_tokens(std::vector<int32_t> tokens) const {
  const Surroundings& around = state_->surroundings;
  tokens.insert(tokens.begin(), around.prefix.begin(), around.prefix.end());
  tokens.insert(tokens.end(), around.suffix.begin(), around.suffix.end());
  return tokens;
}

std::string Tokenizer::decode(std::span<const int32_t> tokens, bool skip_special) const {
  const TokenizerPieces& pieces = state_->pieces;
  std::string bytes;
  for (int32_t token : tokens)
    if (token >= 0 && token < vocab_size() && !(skip_special && pieces.special[token]))
      bytes += pieces.bytes[token];
  return to_valid_utf8(bytes);
}

int64_t Tokenizer::vocab_size() const { return static_cast<int64_t>(state_->pieces.bytes.size()); }

std::optional<int32_t> Tokenizer::token_id(std::string_view spelling) const {
  const auto found = state_->pieces.id_of_spelling.find(spelling);
  return found == state_->pieces.id_of_spelling.end() ? std::nullopt : std::optional(found->second);
}

std::string Tokenizer::token_bytes(int32_t token) const {
  if (token < 0 || token >= vocab_size())
    fail(ErrorCode::invalid_argument, "token id: expected 0 to {}, found {}", vocab_size() - 1, token);
  return state_->pieces.bytes[token];
}

std::string Tokenizer::token_text(int32_t token) const { return to_valid_utf8(token_bytes(token)); }

bool Tokenizer::is_special(int32_t token) const {
  if (token < 0 || token >= vocab_size())
    fail(ErrorCode::invalid_argument, "token id: expected 0 to {}, found {}", vocab_size() - 1, token);
  return state_->pieces.special[token] != 0;
}

StreamDecoder::StreamDecoder(Tokenizer tokenizer, bool skip_special)
    : tokenizer_(std::move(tokenizer)), skip_special_(skip_special) {}

std::string StreamDecoder::push(int32_t token) {
  const TokenizerPieces& pieces = tokenizer_.state_->pieces;
  if (token < 0 || token >= tokenizer_.vocab_size() || (skip_special_ && pieces.special[token])) return "";
  std::string bytes = std::move(pending_) + pieces.bytes[token];
  const size_t complete = bytes.size() - unfinished_utf8_suffix(bytes);
  pending_ = bytes.substr(complete);
  bytes.resize(complete);
  return to_valid_utf8(bytes);
}

std::string StreamDecoder::flush() {
  std::string rest = to_valid_utf8(pending_);
  pending_.clear();
  return rest;
}

}  // namespace indexshare
