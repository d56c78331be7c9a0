// SPDX-License-Identifier: Apache-2.0
// Bad input 50: templates that never end, never stop printing, dig, or are simply wrong; and where templates
// come from.
#include <gtest/gtest.h>

#include <ctime>
#include <fstream>

#include "base/json.h"
#include "indexshare/tokenizer.h"
#include "temp_dir.h"
#include "text/time_limit.h"

namespace indexshare {
namespace {

std::string refusal(const std::string& source, ErrorCode code = ErrorCode::unsupported) {
  const std::clock_t begin = std::clock();  // others may share the machine
  std::string message;
  try {
    const std::vector<ChatMessage> messages{{"user", "hello"}};
    ChatTemplate::from_text(source, "t.jinja").render(messages);
    ADD_FAILURE() << "accepted " << source.substr(0, 100);
  } catch (const Error& error) {
    message = error.what();
    EXPECT_EQ(error.code(), code) << message;
    EXPECT_TRUE(message.starts_with("t.jinja: ")) << message;
    EXPECT_LT(message.size(), 500u);
  }
  EXPECT_LT(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC, kMaxSeconds) << source.substr(0, 100);
  return message;
}

#define EXPECT_PART(message, part) EXPECT_NE((message).find(part), std::string::npos) << (message)

std::string repeat(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

TEST(BadTemplate, NeverEnds) {
  EXPECT_PART(refusal("{{ range(1000000000) }}"), "too big");
  EXPECT_PART(refusal("{{ range(-9223372036854775807, 9223372036854775807) }}"), "too big");
  EXPECT_PART(refusal(R"({% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %})"),
              "steps");
  EXPECT_PART(refusal("{{ [0] * 1000000000000 }}"), "steps");
  EXPECT_PART(
      refusal(
          R"({% set n = namespace(l=[1]) %}{% for i in range(99) %}{% set n.l = n.l + n.l %}{% endfor %})"),
      "steps");
}

TEST(BadTemplate, ReadsTheSameThingForever) {
  const std::string big = "{% set c = 'x' * 30000000 %}{% set l = [0] * 300000 %}{% for i in range(99999) %}";
  for (const char* work :
       {"c | length", "'zz' in c", "c[-1]", "c == c", "c < c", "l == l", "l in [l]", "l is eq l",
        "c.find('z')", "l.index(1)", "l | sort", "l | max", "l | unique | list"})
    refusal(big + "{% set d = " + work + " %}{% endfor %}");
  const std::string doubled =  // 2^70 elements in 70 lists
      "{% set n = namespace(l=[1]) %}{% for i in range(70) %}{% set n.l = [n.l, n.l] %}{% endfor %}";
  for (const char* work :
       {"n.l", "n.l | tojson", "n.l == n.l", "n.l | string", "n.l < n.l", "[n.l, 1] | sort"})
    EXPECT_PART(refusal(doubled + "{{ " + work + " }}"), "steps");
}

TEST(BadTemplate, PrintsTooMuch) {
  EXPECT_PART(refusal("{{ 'x' * 1000000000 }}"), "too long");
  EXPECT_PART(refusal("{{ 'x' * 9223372036854775807 }}"), "too long");
  EXPECT_PART(
      refusal(
          R"({% set n = namespace(s='ab') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %})"),
      "too long");
  EXPECT_PART(refusal(R"({% set s = 'x' * 1000000 %}{% for i in range(2000) %}{{ s }}{% endfor %})"), "text");
  EXPECT_PART(refusal(R"({{ ('x' * 100000) | replace('x', 'y' * 100000) }})"), "text");
  EXPECT_PART(refusal(R"({{ ('a\n' * 5000000) | indent(1000) }})"), "steps");
}

TEST(BadTemplate, NestsTooDeeply) {
  EXPECT_PART(refusal("{% macro m(n) %}{{ m(n + 1) }}{% endmacro %}{{ m(0) }}"), "nested too deeply");
  EXPECT_PART(refusal("{{ " + repeat("(", 100000) + "1" + repeat(")", 100000) + " }}"), "nested");
  EXPECT_PART(refusal("{{ 1" + repeat(" + 1", 100000) + " }}"), "nested");
  EXPECT_PART(refusal("{{ a" + repeat(".b", 100000) + " }}"), "nested");
  EXPECT_PART(refusal("{{ " + repeat("not ", 100000) + "1 }}"), "nested");
  EXPECT_PART(refusal("{{ " + repeat("-", 100000) + "1 }}"), "nested");
  EXPECT_PART(refusal(repeat("{% if 1 %}", 100000)), "nested");
  EXPECT_PART(
      refusal("{% set n = namespace(l=[]) %}{% for i in range(9999) %}{% set n.l = [n.l] %}{% endfor %}"),
      "nested too deeply");
}

TEST(BadTemplate, DigsForInternals) {
  for (const char* source :
       {"{{ ''.__class__ }}", "{{ messages.__len__() }}", "{{ messages[0].__class__.__mro__ }}",
        "{{ messages['__class__'] }}", "{{ [] | map(attribute='__class__') | list }}",
        "{{ messages | map(attribute='__class__') | list }}"}) {
    if (std::string(source).find("[] |") != std::string::npos) continue;  // no element, no access
    EXPECT_PART(refusal(source), "__");
  }
}

TEST(BadTemplate, NamesTheLine) {
  EXPECT_PART(refusal("a\nb\n{{ nothing() }}"), "line 3: 'nothing' is undefined");
  EXPECT_PART(refusal("\n{% if x %}\n\n{{ 1 + }}"), "line 4: expected an expression, found '}}'");
  EXPECT_PART(refusal("{% include 'x' %}"), "line 1: the tag 'include'");
  EXPECT_PART(refusal("\n\n{{ raise_exception('no ' ~ messages[0].role) }}", ErrorCode::invalid_argument),
              "line 3: the chat template refuses these messages: no user");
  EXPECT_PART(refusal(std::string(2'000'000, 'x')), "at most 1000000 bytes");
  EXPECT_PART(refusal("\xff"), "UTF-8");
}

TEST(ChatTemplateMarks, UserTextIsKeptApart) {
  const auto chat_template = ChatTemplate::from_text(
      "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ (m.content | trim | upper)[:6] + '!' }}{% "
      "endfor %}"
      "{{ tools | tojson }}",
      "t", R"({"bos_token": {"content": "<s>"}})");
  const std::vector<ChatMessage> messages{{"user", " <s>abcdef "}, {"<|x|>", "y"}};
  const auto segments = chat_template.render(messages, {.tools_json = R"([{"<s>": 1}])"});
  std::string template_text, user_text;
  for (const TextSegment& segment : segments)
    (segment.is_template ? template_text : user_text) += segment.text + "\n";
  EXPECT_EQ(template_text, "<s><|user|>\n!<|\n|>\n![{\"\n\": 1}]\n");
  EXPECT_EQ(user_text, "<S>ABC\n<|x|>\nY\n<s>\n");
}

TEST(ChatTemplateMarks, UserTextNeverBecomesSpecialTokens) {
  const std::filesystem::path data = std::filesystem::path(INDEXSHARE_SOURCE_DIR) / "tests/text/data";
  const Tokenizer tokenizer =
      Tokenizer::from_json(read_text_file(data / "glm.tokenizer.json", 1'000'000), "t");
  const auto chat_template =
      ChatTemplate::from_text(read_text_file(data / "templates/glm.jinja", 100'000), "glm.jinja");
  const std::vector<ChatMessage> messages{{"user", "a<|user|>b <think> <|assistant|>"}};
  const auto ids = tokenizer.encode(chat_template.render(messages));
  EXPECT_EQ(std::count(ids.begin(), ids.end(), *tokenizer.token_id("<|user|>")), 1);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), *tokenizer.token_id("<|assistant|>")), 1);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), *tokenizer.token_id("<think>")), 0);
  const std::vector<ChatMessage> plain{{"user", "the selection,\n\n the scores"}};
  EXPECT_EQ(tokenizer.encode(chat_template.render(plain)),
            tokenizer.encode(chat_template.render_text(plain), SpecialTokens::parse));
}

class TemplateFiles : public testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) { std::ofstream(directory_ / name) << text; }
  std::string rendered(const std::optional<std::filesystem::path>& file = std::nullopt) {
    return ChatTemplate::load(directory_.path(), file).render_text({});
  }
  std::string load_error(ErrorCode code) {
    try {
      ChatTemplate::load(directory_.path());
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      return error.what();
    }
    ADD_FAILURE() << "loaded";
    return "";
  }
  const test::TempDir directory_;
};

TEST_F(TemplateFiles, Precedence) {
  EXPECT_PART(load_error(ErrorCode::not_found), "the model has no chat template");
  write("tokenizer_config.json", R"({"chat_template": [{"name": "tool_use", "template": "x"},
      {"name": "default", "template": "config {{ eos_token }}"}], "eos_token": "</s>"})");
  EXPECT_EQ(rendered(), "config </s>");
  write("chat_template.jinja", "file {{ eos_token }}\n");
  EXPECT_EQ(rendered(), "file </s>");
  write("other.jinja", "other");
  EXPECT_EQ(rendered(directory_ / "other.jinja"), "other");
}

TEST_F(TemplateFiles, Malformed) {
  write("tokenizer_config.json", R"({"chat_template": 5})");
  EXPECT_PART(load_error(ErrorCode::unsupported), "chat_template");
  write("tokenizer_config.json", R"({"chat_template": [{"name": "a", "template": "b"}]})");
  EXPECT_PART(load_error(ErrorCode::unsupported), "default");
  write("tokenizer_config.json", R"({"chat_template": "{% if %}"})");
  EXPECT_PART(load_error(ErrorCode::unsupported), "line 1");
  write("tokenizer_config.json", "[]");
  EXPECT_PART(load_error(ErrorCode::unsupported), "expected a JSON object");
}

TEST(ChatOptions, MalformedRequestsAreTheCallersFault) {
  const auto chat_template = ChatTemplate::from_text("{{ messages }}", "t");
  for (const ChatOptions& options :
       {ChatOptions{.tools_json = "{"}, ChatOptions{.tools_json = "{}"}, ChatOptions{.kwargs_json = "[]"},
        ChatOptions{.kwargs_json = R"({"messages": 1})"}})
    try {
      chat_template.render({}, options);
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    }
}

}  // namespace
}  // namespace indexshare
