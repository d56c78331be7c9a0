// SPDX-License-Identifier: Apache-2.0
// Token ids against those of Hugging Face tokenizers (tools/make_tokenizer_goldens.py), one tokenizer per
// family.
#include <gtest/gtest.h>

#include "base/check.h"
#include "base/json.h"
#include "indexshare/tokenizer.h"
#include "text/unicode.h"

namespace indexshare {
namespace {

const std::filesystem::path kData = std::filesystem::path(INDEXSHARE_SOURCE_DIR) / "tests/text/data";

using Ids = std::vector<int32_t>;

std::string document_of(const std::string& name) {
  return read_text_file(kData / (name + ".tokenizer.json"), 10'000'000);
}

uint64_t fnv(uint64_t hash, const Ids& ids) {
  for (int32_t id : ids)
    for (int shift = 0; shift < 32; shift += 8) hash = (hash ^ ((id >> shift) & 0xff)) * 0x100000001b3u;
  return hash;
}

constexpr uint64_t kFnvStart = 0xcbf29ce484222325u;

class Family : public testing::TestWithParam<const char*> {
 protected:
  Tokenizer tokenizer_ = Tokenizer::from_json(document_of(GetParam()), "tokenizer.json");
  Json golden_ = read_json_file(kData / (std::string(GetParam()) + ".golden.json"));
};

TEST_P(Family, EncodesAsTokenizersDoes) {
  EXPECT_EQ(tokenizer_.vocab_size(), golden_["vocab_size"].get<int64_t>());
  for (const Json& item : golden_["cases"]) {
    const auto text = item["text"].get<std::string>();
    const Ids ids = tokenizer_.encode(text, SpecialTokens::parse);
    EXPECT_EQ(ids, item["ids"].get<Ids>()) << item["text"];
    EXPECT_EQ(tokenizer_.encode(text, SpecialTokens::as_text), item["as_text"].get<Ids>()) << item["text"];
    EXPECT_EQ(tokenizer_.with_special_tokens(ids), item["with_special"].get<Ids>()) << item["text"];
  }
}

TEST_P(Family, DecodesAsTokenizersDoes) {
  for (const Json& item : golden_["cases"]) {
    const Ids ids = item["ids"].get<Ids>();
    EXPECT_EQ(tokenizer_.decode(ids), item["decoded"].get<std::string>());
    EXPECT_EQ(tokenizer_.decode(ids, true), item["decoded_skip"].get<std::string>());
  }
  const Ids broken = golden_["broken"]["ids"].get<Ids>();
  EXPECT_EQ(tokenizer_.decode(broken), golden_["broken"]["decoded"].get<std::string>());
}

TEST_P(Family, StreamsWholeCharacters) {
  std::vector<Ids> streams{golden_["broken"]["ids"].get<Ids>()};
  for (const Json& item : golden_["cases"]) streams.push_back(item["ids"].get<Ids>());
  for (const Ids& ids : streams) {
    StreamDecoder decoder(tokenizer_);
    std::string streamed;
    for (int32_t id : ids) {
      const std::string piece = decoder.push(id);
      EXPECT_TRUE(is_valid_utf8(piece));
      streamed += piece;
    }
    streamed += decoder.flush();
    EXPECT_EQ(streamed, tokenizer_.decode(ids));
  }
}

TEST_P(Family, EveryCodePointOfUnicode14) {
  std::vector<std::pair<uint32_t, uint64_t>> hashes;
  for (const Json& range : golden_["ranges"])
    for (uint32_t code = range[0]; code <= range[1].get<uint32_t>(); ++code) {
      if (hashes.empty() || hashes.back().first != code / 1024) hashes.emplace_back(code / 1024, kFnvStart);
      std::string c;
      append_utf8(c, code);
      const std::string text = "a" + c + "b " + c + c + "1" + c + " \n" + c + "'s" + c;
      hashes.back().second = fnv(hashes.back().second, tokenizer_.encode(text, SpecialTokens::parse));
    }
  ASSERT_EQ(hashes.size(), golden_["hashes"].size());
  for (size_t i = 0; i < hashes.size(); ++i)
    EXPECT_EQ(fmt::format("{:016x}", hashes[i].second), golden_["hashes"][i][1].get<std::string>())
        << "code points " << hashes[i].first * 1024;
}

TEST_P(Family, AMillionEqualLettersAreNotQuadratic) {
  const Ids ids = tokenizer_.encode(std::string(1'000'000, 'a'), SpecialTokens::parse);
  EXPECT_EQ(fmt::format("{:016x}", fnv(kFnvStart, ids)), golden_["million_a"].get<std::string>());
}

INSTANTIATE_TEST_SUITE_P(, Family, testing::Values("glm", "deepseek", "gpt2", "llama3"),
                         [](const auto& tested) { return std::string(tested.param); });

TEST(PreTokenizers, SplitAsTokenizersDoes) {
  const Json golden = read_json_file(kData / "gpt2.golden.json")["variants"];
  Json document = parse_json(document_of("gpt2"), "tokenizer.json");
  for (const Json& variant : golden["variants"]) {
    document["pre_tokenizer"] = variant["pre_tokenizer"];
    const Tokenizer tokenizer = Tokenizer::from_json(document.dump(), "tokenizer.json");
    for (size_t i = 0; i < golden["texts"].size(); ++i)
      EXPECT_EQ(tokenizer.encode(golden["texts"][i].get<std::string>(), SpecialTokens::parse),
                variant["ids"][i].get<Ids>())
          << variant["pre_tokenizer"] << " on " << golden["texts"][i];
  }
}

}  // namespace
}  // namespace indexshare
