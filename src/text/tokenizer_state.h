// SPDX-License-Identifier: Apache-2.0
// What a loaded Tokenizer consists of.
#pragma once

#include "indexshare/tokenizer.h"
#include "text/added_tokens.h"
#include "text/byte_pair_model.h"
#include "text/pre_tokenizer.h"

namespace indexshare {

struct TokenizerPieces {
  Vocabulary id_of_spelling;       // added tokens included
  std::vector<std::string> bytes;  // [vocab_size] what each token stands for
  std::vector<uint8_t> special;    // [vocab_size]
};

/// What surrounds a text when special tokens are asked for.
struct Surroundings {
  std::vector<int32_t> prefix, suffix;
};

struct Tokenizer::State {
  TokenizerPieces pieces;
  AddedTokens added;
  PreTokenizer pre_tokenizer;
  BytePairModel model;
  Surroundings surroundings;
};

/// Throws Error{unsupported}; `what` names the file.
std::shared_ptr<const Tokenizer::State> read_tokenizer(const Json& document, const std::string& what);

}  // namespace indexshare
