// SPDX-License-Identifier: Apache-2.0
// The input is a chat template, rendered for a fixed conversation.
#include <cstdlib>

#include "indexshare/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace indexshare;
  const std::vector<ChatMessage> messages{
      {"system", "Be brief."},
      {"user", "Caf\xc3\xa9 <|user|> \xf0\x9f\x91\x8d"},
      {"assistant", "",
       R"({"tool_calls": [{"function": {"name": "f", "arguments": {"a": [1, 2.5, null, true]}}}]})"},
      {"tool", "ok"}};
  try {
    const auto chat_template = ChatTemplate::from_text({reinterpret_cast<const char*>(data), size}, "fuzz",
                                                       R"({"bos_token": "<s>", "eos_token": "</s>"})");
    const ChatOptions options{.tools_json = R"([{"name": "f"}])", .kwargs_json = R"({"n": 3, "s": "a b"})"};
    std::string joined;
    for (const TextSegment& segment : chat_template.render(messages, options)) joined += segment.text;
    if (joined != chat_template.render_text(messages, options) && joined.find(':') == joined.npos)
      std::abort();
  } catch (const Error& error) {
    if (error.code() == ErrorCode::internal) std::abort();
  }
  return 0;
}
