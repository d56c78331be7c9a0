// SPDX-License-Identifier: Apache-2.0
// Rendered templates against python3-jinja2 as transformers configures it (tools/make_template_goldens.py).
#include <gtest/gtest.h>

#include "base/json.h"
#include "indexshare/tokenizer.h"

namespace indexshare {
namespace {

const std::filesystem::path kData = std::filesystem::path(INDEXSHARE_SOURCE_DIR) / "tests/text/data";

std::vector<ChatMessage> messages_of(const Json& list) {
  std::vector<ChatMessage> messages;
  for (Json message : list) messages.push_back({message["role"].get<std::string>(), "", message.dump()});
  return messages;
}

ChatOptions options_of(Json given) {
  ChatOptions options;
  if (given.contains("add_generation_prompt"))
    options.add_generation_prompt = given["add_generation_prompt"].get<bool>();
  if (given.contains("tools")) options.tools_json = given["tools"].dump();
  given.erase("add_generation_prompt");
  given.erase("tools");
  options.kwargs_json = given.dump();
  return options;
}

class ChatTemplateGolden : public testing::Test {
 protected:
  Json golden_ = read_json_file(kData / "templates.golden.json");
};

TEST_F(ChatTemplateGolden, ModelTemplates) {
  for (const Json& item : golden_["chats"]) {
    const auto file = item["template"].get<std::string>();
    const auto chat_template = ChatTemplate::from_text(read_text_file(kData / "templates" / file, 100000),
                                                       file, golden_["special_tokens"].dump());
    const auto messages = messages_of(item["messages"]);
    const std::string name = file + " " + item["chat"].get<std::string>() + " " + item["options"].dump();
    if (item["text"].is_null()) {
      EXPECT_THROW(chat_template.render_text(messages, options_of(item["options"])), Error) << name;
      continue;
    }
    try {
      EXPECT_EQ(chat_template.render_text(messages, options_of(item["options"])),
                item["text"].get<std::string>())
          << name;
    } catch (const Error& error) {
      ADD_FAILURE() << name << ": " << error.what();
    }
  }
}

TEST_F(ChatTemplateGolden, Snippets) {
  const ChatOptions options{.kwargs_json = golden_["variables"].dump()};
  for (const Json& item : golden_["snippets"]) {
    try {
      const auto chat_template = ChatTemplate::from_text(item["source"].get<std::string>(), "t");
      EXPECT_EQ(chat_template.render_text({}, options), item["text"].get<std::string>()) << item["source"];
    } catch (const Error& error) {
      ADD_FAILURE() << item["source"] << ": " << error.what();
    }
  }
}

TEST_F(ChatTemplateGolden, Errors) {
  const ChatOptions options{.kwargs_json = golden_["variables"].dump()};
  for (const Json& source : golden_["errors"]) {
    try {
      ChatTemplate::from_text("\n" + source.get<std::string>(), "t.jinja").render_text({}, options);
      ADD_FAILURE() << "accepted " << source;
    } catch (const Error& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with("t.jinja: line 2: "))
          << source << ": " << error.what();
      EXPECT_EQ(error.code(), source.get<std::string>().find("raise_exception") == std::string::npos
                                  ? ErrorCode::unsupported
                                  : ErrorCode::invalid_argument);
    }
  }
}

}  // namespace
}  // namespace indexshare
