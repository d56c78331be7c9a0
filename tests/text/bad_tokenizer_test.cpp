// SPDX-License-Identifier: Apache-2.0
// Bad inputs 44 to 49: a tokenizer.json broken in one way each is refused at once, in a sentence naming the
// field.
#include <gtest/gtest.h>

#include <ctime>
#include <functional>

#include "base/json.h"
#include "indexshare/tokenizer.h"
#include "text/time_limit.h"

namespace indexshare {
namespace {

const std::filesystem::path kData = std::filesystem::path(INDEXSHARE_SOURCE_DIR) / "tests/text/data";

class BadTokenizer : public testing::Test {
 protected:
  // The message with which a changed copy of the GLM tokenizer is refused.
  std::string refusal(const std::function<void(Json&)>& change) {
    Json document = good_;
    change(document);
    return refusal_of_text(document.dump());
  }

  static std::string refusal_of_text(const std::string& text) {
    const std::clock_t begin = std::clock();  // others may share the machine
    std::string message;
    try {
      Tokenizer::from_json(text, "tokenizer.json");
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      message = error.what();
      EXPECT_EQ(error.code(), ErrorCode::unsupported);
      EXPECT_TRUE(message.starts_with("tokenizer.json: ")) << message;
      EXPECT_LT(message.size(), 500u);
      EXPECT_EQ(message.find('\n'), std::string::npos);
    }
    EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, kMaxSeconds);
    return message;
  }

  static Json split(const std::string& pattern) {
    return {
        {"type", "Sequence"},
        {"pretokenizers",
         {{{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}},
          {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
  }

  std::string refusal_of_pattern(const std::string& pattern) {
    return refusal([&](Json& d) { d["pre_tokenizer"] = split(pattern); });
  }

  Json good_ = read_json_file(kData / "glm.tokenizer.json");
};

#define EXPECT_PART(message, part) EXPECT_NE((message).find(part), std::string::npos) << (message)

TEST_F(BadTokenizer, NotATokenizer) {
  for (const char* text : {"", "[]", "{}", "null", "{\"model\":{}}", "{\"model\":{\"vocab\":{\"a\":0}}}"})
    refusal_of_text(text);
  EXPECT_PART(refusal([](Json& d) { d["model"]["type"] = "Unigram"; }), "model.type");
  EXPECT_PART(refusal([](Json& d) { d["model"]["byte_fallback"] = true; }), "byte_fallback");
}

TEST_F(BadTokenizer, MergesOfUnknownPieces) {  // 44
  EXPECT_PART(refusal([](Json& d) { d["model"]["merges"][3] = {"nope", "t"}; }), "model.merges[3]");
  EXPECT_PART(refusal([](Json& d) { d["model"]["merges"][3] = "t nope"; }), "\"nope\"");
  EXPECT_PART(refusal([](Json& d) { d["model"]["merges"][0] = {"z", "z"}; }), "\"zz\"");
  for (const Json& merge : {Json("ab"), Json("a b c"), Json({"a"}), Json(1), Json({"a", 1})})
    EXPECT_PART(refusal([&](Json& d) { d["model"]["merges"][0] = merge; }), "two pieces");
}

TEST_F(BadTokenizer, Ids) {  // 45
  EXPECT_PART(refusal([](Json& d) { d["model"]["vocab"]["a"] = d["model"]["vocab"]["b"]; }), "too");
  EXPECT_PART(refusal([](Json& d) { d["model"]["vocab"]["a"] = 1000000000; }), "below the number of pieces");
  EXPECT_PART(refusal([](Json& d) { d["model"]["vocab"]["a"] = -1; }), "found -1");
  EXPECT_PART(refusal([](Json& d) { d["model"]["vocab"]["a"] = "7"; }), "\"7\"");
  EXPECT_PART(refusal([](Json& d) { d["model"]["vocab"]["a"] = 7.0; }), "7.0");
  EXPECT_PART(refusal([](Json& d) {
                d["model"]["vocab"].erase("~");
                d["model"]["merges"] = Json::array();
              }),
              "number of pieces");
  EXPECT_PART(refusal([](Json& d) { d["added_tokens"][0]["id"] = -5; }), "added_tokens[0].id");
  EXPECT_PART(refusal([](Json& d) { d["added_tokens"][0]["id"] = 2000000000; }), "added_tokens[0].id");
  EXPECT_PART(refusal([](Json& d) { d["added_tokens"][0]["id"] = d["added_tokens"][1]["id"]; }), "too");
  EXPECT_PART(refusal([](Json& d) { d["added_tokens"][0]["content"] = "a"; }), "as in model.vocab");
}

TEST_F(BadTokenizer, PiecesThatAreNoBytes) {  // 46
  const std::string message = refusal([](Json& d) {
    d["model"]["vocab"]["\xe4\xb8\xad"] = d["model"]["vocab"].size() + d["added_tokens"].size();
  });
  EXPECT_PART(message, "byte-level alphabet");
}

TEST_F(BadTokenizer, AddedTokens) {  // 47
  EXPECT_PART(refusal([](Json& d) { d["added_tokens"][0]["content"] = ""; }), "added_tokens[0].content");
  EXPECT_PART(refusal([](Json& d) { d["added_tokens"][0]["content"] = std::string(100000, 'x'); }),
              "1 to 1024 bytes");
  EXPECT_PART(refusal([](Json& d) { d["added_tokens"] = Json(200000, Json::object()); }), "at most 100000");
  std::string many = R"({"added_tokens":[)";
  for (int i = 0; i < 10'000'000; ++i) many += "{},";
  EXPECT_PART(refusal_of_text(many), "JSON values");
}

TEST_F(BadTokenizer, AnAddedTokenThatBeginsAllOthers) {  // 47, accepted: the longest wins
  good_["added_tokens"][0]["content"] = "<|";
  const Tokenizer tokenizer = Tokenizer::from_json(good_.dump(), "tokenizer.json");
  const auto ids = tokenizer.encode("<|user|><|user", SpecialTokens::parse);
  ASSERT_GE(ids.size(), 2u);
  EXPECT_EQ(ids[0], *tokenizer.token_id("<|user|>"));
  EXPECT_EQ(ids[1], *tokenizer.token_id("<|"));
}

TEST_F(BadTokenizer, Patterns) {  // 48
  for (const char* pattern : {"(", "[a", "a**", "\\p{Nonsense}", "(?<n>a)(?<n>b)", "a{2,1}", "*"})
    EXPECT_PART(refusal_of_pattern(pattern), "valid regular expression");
  for (const char* pattern : {"(a+)+$", "(a|a)*b", "(a*)*c", "(?:\\s*)*x", "(.*.*)*z", "((\\w+)\\s?)*$"})
    EXPECT_PART(refusal_of_pattern(pattern), "too much work");
  EXPECT_PART(refusal_of_pattern(std::string(1'000'000, 'a')), "at most 16384 bytes");
  EXPECT_PART(refusal_of_pattern("a(?C1)b"), "callout");
  EXPECT_PART(refusal_of_pattern("a(?C\"x\")b"), "callout");
  EXPECT_PART(refusal_of_pattern("\\C"), "\\C");
  EXPECT_PART(refusal_of_pattern("(*LIMIT_MATCH=4000000000)a"), "VERB");
  EXPECT_PART(refusal_of_pattern("(?R)?a"), "recursion");
  EXPECT_PART(refusal_of_pattern(""), "Regex");
  EXPECT_PART(refusal_of_pattern("((((a{1000}){1000}){1000}){1000})"), "regular expression");
  EXPECT_PART(refusal_of_pattern(std::string(10000, '(')), "regular expression");
}

TEST_F(BadTokenizer, UnknownTypes) {  // 49
  EXPECT_PART(refusal([](Json& d) { d["normalizer"] = {{"type", "NFKC"}}; }), "normalizer.type");
  EXPECT_PART(refusal([](Json& d) {
                d["normalizer"] = {{"type", "Sequence"}, {"normalizers", {{{"type", "Zap"}}}}};
              }),
              "normalizer.normalizers[0].type");
  EXPECT_PART(refusal([](Json& d) { d["decoder"] = {{"type", "Zap"}}; }), "decoder.type");
  EXPECT_PART(refusal([](Json& d) { d["decoder"] = nullptr; }), "decoder");
  EXPECT_PART(refusal([](Json& d) { d["pre_tokenizer"] = {{"type", "Zap"}}; }), "pre_tokenizer.type");
  EXPECT_PART(refusal([](Json& d) { d["pre_tokenizer"] = nullptr; }), "ByteLevel");
  EXPECT_PART(refusal([](Json& d) { d["post_processor"] = {{"type", "Zap"}}; }), "post_processor.type");
}

TEST(Tokenizer, UserTextNeverBecomesSpecialTokens) {
  for (const char* name : {"glm", "deepseek", "llama3"}) {
    const Json document = read_json_file(kData / (std::string(name) + ".tokenizer.json"));
    const Tokenizer tokenizer = Tokenizer::from_json(document.dump(), name);
    for (const Json& token : document["added_tokens"]) {
      const auto content = token["content"].get<std::string>();
      const auto id = token["id"].get<int32_t>();
      for (int32_t found : tokenizer.encode(content, SpecialTokens::as_text)) EXPECT_NE(found, id) << content;
      const auto parsed = tokenizer.encode(content, SpecialTokens::parse);
      EXPECT_NE(std::find(parsed.begin(), parsed.end(), id), parsed.end()) << content;
    }
  }
}

TEST(Tokenizer, WordsMaySpanSegmentsAndMarkupMayNot) {
  const Tokenizer tokenizer =
      Tokenizer::from_json(read_text_file(kData / "glm.tokenizer.json", 1'000'000), "tokenizer.json");
  const std::vector<TextSegment> split{{"<|us", true}, {"er|>the sel", false}, {"ection<|user|>", true}};
  auto expected = tokenizer.encode("<|user|>the selection", SpecialTokens::as_text);
  expected.push_back(*tokenizer.token_id("<|user|>"));
  EXPECT_EQ(tokenizer.encode(split), expected);
  const std::vector<TextSegment> joined{{"<|us", true}, {"er|>", true}};
  EXPECT_EQ(tokenizer.encode(joined), std::vector<int32_t>{*tokenizer.token_id("<|user|>")});
}

TEST(Tokenizer, InvalidUtf8IsReadAsReplacementCharacters) {
  const Tokenizer tokenizer =
      Tokenizer::from_json(read_text_file(kData / "glm.tokenizer.json", 1'000'000), "tokenizer.json");
  EXPECT_EQ(tokenizer.encode("a\xff\xe4\xb8", SpecialTokens::as_text),
            tokenizer.encode("a\xef\xbf\xbd\xef\xbf\xbd", SpecialTokens::as_text));
}

TEST(Tokenizer, LoadNamesAMissingFile) {
  try {
    Tokenizer::load("/nonexistent/model");
    ADD_FAILURE() << "loaded";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::not_found);
    EXPECT_PART(std::string(error.what()), "/nonexistent/model/tokenizer.json");
  }
}

}  // namespace
}  // namespace indexshare
