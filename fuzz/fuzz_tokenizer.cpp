// SPDX-License-Identifier: Apache-2.0
// Input: a tokenizer.json, a NUL byte, a text. Without NUL the whole input is a text for a fixed tokenizer.
#include <algorithm>
#include <cstdlib>

#include "indexshare/tokenizer.h"
#include "text/unicode.h"

namespace {

using namespace indexshare;

constexpr std::string_view kSmall =
    R"({"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3, "Ġa": 4,
  "abab": 5, "Ã": 6, "©": 7, "Ã©": 8, "<": 9, "|": 10, ">": 11}, "merges": ["a b", "Ġ a", "ab ab", "Ã ©"]},
  "added_tokens": [{"id": 12, "content": "<|>", "special": true}, {"id": 13, "content": " b", "lstrip": true},
  {"id": 14, "content": "<<", "single_word": true, "rstrip": true, "normalized": true}], "decoder": {"type": "ByteLevel"},
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true}})";

void check(const Tokenizer& tokenizer, std::string_view text) {
  const std::vector<int32_t> tokens = tokenizer.encode(text, SpecialTokens::parse);
  StreamDecoder decoder(tokenizer);
  std::string streamed;
  for (int32_t token : tokens) streamed += decoder.push(token);
  if (streamed + decoder.flush() != tokenizer.decode(tokens)) std::abort();
  for (int32_t token : tokenizer.encode(text, SpecialTokens::as_text)) tokenizer.token_bytes(token);
  const size_t half = text.size() / 2;
  const TextSegment segments[] = {{std::string(text.substr(0, half)), true},
                                  {std::string(text.substr(half)), false}};
  tokenizer.encode(segments);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Tokenizer small = Tokenizer::from_json(kSmall, "small");
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t nul = input.find('\0');
  try {
    if (nul == input.npos) {
      check(small, input);
    } else {
      check(Tokenizer::from_json(input.substr(0, nul), "fuzz"), input.substr(nul + 1));
    }
  } catch (const Error& error) {
    if (error.code() == ErrorCode::internal) std::abort();
  }
  return 0;
}
