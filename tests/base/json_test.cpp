// SPDX-License-Identifier: Apache-2.0
// Bad inputs 33 and 43 of the list in docs, the JSON half: each is one clear sentence that names file and
// field.
#include "base/json.h"

#include <gtest/gtest.h>

#include <fstream>
#include <functional>

#include "indexshare/error.h"
#include "temp_dir.h"

namespace indexshare {
namespace {

std::string rejection(const std::string& text, JsonLimits limits = {}) {
  try {
    parse_json(text, "config.json", limits);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::unsupported);
    EXPECT_TRUE(std::string(error.what()).starts_with("config.json: ")) << error.what();
    EXPECT_LT(std::string(error.what()).size(), 600u);
    return error.what();
  }
  ADD_FAILURE() << "accepted " << text.substr(0, 100);
  return "";
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(Json, KeepsTheOrderOfTheDocument) {
  EXPECT_EQ(parse_json(R"( {"z":1,"a":[true,null,-2,1.5,"\u00e9"]} )", "x").dump(),
            "{\"z\":1,\"a\":[true,null,-2,1.5,\"\xc3\xa9\"]}");
}

TEST(Json, RejectsWhatIsNotStrictJson) {
  for (const char* text : {"",
                           " ",
                           "{",
                           "[1,2",
                           "{\"a\":}",
                           "{} x",
                           "{}{}",
                           "{\"a\":1,}",
                           "[1,]",
                           "NaN",
                           "nul",
                           "01",
                           "// c\n{}",
                           "{'a':1}",
                           "\"\\x\"",
                           "\"\\ud800\"",
                           "\"\x01\"",
                           "\"\xff\"",
                           "\"\xed\xa0\x80\"",
                           "\"\xc0\x80\"",
                           "\xff{}",
                           "[1e400]",
                           "[-1e999]"})
    rejection(text);
  EXPECT_TRUE(contains(rejection("\xef\xbb\xbf{}"), "byte order mark"));
  EXPECT_TRUE(contains(rejection(std::string("{}\0", 3)), "byte"));
}

TEST(Json, NamesThePlaceOfTheMistake) {
  EXPECT_TRUE(contains(rejection(R"({"a":{"b":[1,{"c":1e400}]}})"), "a.b[1].c"));
  EXPECT_TRUE(contains(rejection(R"({"a":{"b":[1,{"c":1e400}]}})"), "out of range"));
  const std::string twice = rejection(R"({"a":{"k":1,"k":2}})");
  EXPECT_TRUE(contains(twice, "\"k\" appears twice"));
}

TEST(Json, LimitsDepthBytesAndValues) {
  EXPECT_TRUE(contains(rejection(std::string(100000, '[')), "at most 64 deep"));
  std::string nested;
  for (int i = 0; i < 100000; ++i) nested += "{\"a\":";
  EXPECT_TRUE(contains(rejection(nested), "at most 64 deep"));
  EXPECT_NO_THROW(parse_json(std::string(64, '[') + std::string(64, ']'), "x"));
  EXPECT_TRUE(contains(rejection("[1, 2, 3, 4]", {.max_bytes = 10}), "at most 10 bytes"));
  EXPECT_TRUE(contains(rejection("[1, 2, 3, 4]", {.max_values = 4}), "at most 4 JSON values"));
  EXPECT_NO_THROW(parse_json("[1, 2, 3, 4]", "x", {.max_values = 5}));
}

TEST(Json, ManyKeysAreNotQuadratic) {
  std::string text = "{";
  for (int i = 0; i < 200000; ++i) text += (i ? ",\"" : "\"") + std::to_string(i) + "\":0";
  EXPECT_EQ(parse_json(text + "}", "x").size(), 200000u);
}

TEST(JsonFile, ErrorsOfTheFileSystem) {
  const test::TempDir directory;
  const auto code = [](const std::filesystem::path& path, size_t max_bytes) {
    try {
      read_json_file(path, {.max_bytes = max_bytes});
    } catch (const Error& error) {
      return error.code();
    }
    return ErrorCode::internal;
  };
  EXPECT_EQ(code(directory / "no such file", 100), ErrorCode::not_found);
  EXPECT_EQ(code(directory.path(), 100), ErrorCode::unsupported);
  EXPECT_EQ(code("/dev/zero", 100), ErrorCode::unsupported);
  const auto path = directory / "sparse.json";
  std::ofstream(path) << "{}";
  std::filesystem::resize_file(path, uintmax_t{1} << 40);  // never read: the size alone refuses it
  EXPECT_EQ(code(path, 1'000'000), ErrorCode::unsupported);
}

TEST(JsonFile, AGitLfsPointerIsNotTheFile) {
  const test::TempDir directory;
  const auto path = directory / "pointer.json";
  std::ofstream(path) << "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n";
  for (const auto& read :
       {std::function([&] { read_json_file(path); }), std::function([&] { read_text_file(path, 1000); })}) {
    try {
      read();
      ADD_FAILURE() << "read";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::unsupported);
      EXPECT_TRUE(contains(error.what(), path.string())) << error.what();
      EXPECT_TRUE(contains(error.what(), "git lfs pull")) << error.what();
    }
  }
}

class Getters : public testing::Test {
 protected:
  std::string rejection_of(const std::function<void(const JsonObject&)>& get) {
    try {
      get(JsonObject(document_, "config.json"));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::unsupported);
      return error.what();
    }
    ADD_FAILURE() << "accepted";
    return "";
  }
  Json document_ = parse_json(
      R"({"n":7,"s":"7","f":7.0,"z":-0.0,"neg":-1,"null":null,"b":true,"big":18446744073709551615,
          "o":{"x":"y","n":"4"},"l":[1,2],"bad":[1,"2"],"huge":1e300})",
      "config.json");
};

TEST_F(Getters, ReadWhatIsThere) {
  const JsonObject object(document_, "config.json");
  EXPECT_EQ(object.required_int("n"), 7);
  EXPECT_EQ(object.optional_int("neg", -5), -1);
  EXPECT_EQ(object.optional_int("null"), std::nullopt);
  EXPECT_EQ(object.optional_int("absent"), std::nullopt);
  EXPECT_EQ(object.required_double("n"), 7.0);
  EXPECT_TRUE(object.required_bool("b"));
  EXPECT_EQ(object.required_object("o").required_string("x"), "y");
  EXPECT_FALSE(object.optional_object("absent"));
  EXPECT_EQ(object.required_int_list("l"), (std::vector<int64_t>{1, 2}));
}

TEST_F(Getters, NameTheFieldAndBothSides) {
  EXPECT_EQ(rejection_of([](const JsonObject& o) { o.required_int("s", 1, 9); }),
            "config.json: s: expected an integer from 1 to 9, found the string \"7\"");
  EXPECT_EQ(rejection_of([](const JsonObject& o) { o.required_int("absent"); }),
            "config.json: absent: expected an integer of at least 0, found nothing");
  EXPECT_EQ(rejection_of([](const JsonObject& o) { o.required_object("o").required_int("n"); }),
            "config.json: o.n: expected an integer of at least 0, found the string \"4\"");
  EXPECT_EQ(rejection_of([](const JsonObject& o) { o.required_int_list("bad", 0, 5); }),
            "config.json: bad[1]: expected an integer from 0 to 5, found the string \"2\"");
  for (const char* key : {"f", "z", "big", "neg", "null", "b", "huge"})
    rejection_of([&](const JsonObject& o) { o.required_int(key); });
  rejection_of([](const JsonObject& o) { o.required_double("huge", 0, 1e6); });
  rejection_of([](const JsonObject& o) { o.required_double("s"); });
  rejection_of([](const JsonObject& o) { o.required_bool("n"); });
  rejection_of([](const JsonObject& o) { o.required_string("n"); });
  rejection_of([](const JsonObject& o) { o.optional_object("n"); });
  rejection_of([](const JsonObject& o) { o.optional_array("n"); });
}

TEST(JsonObject, RootMustBeAnObject) {
  for (const char* text : {"[]", "1", "null", "\"x\""})
    EXPECT_THROW(JsonObject(parse_json(text, "config.json"), "config.json"), Error);
}

}  // namespace
}  // namespace indexshare
