// SPDX-License-Identifier: Apache-2.0
#include "base/check.h"
#include "base/json.h"
#include "indexshare/tokenizer.h"
#include "text/template_interpreter.h"
#include "text/unicode.h"

namespace indexshare {

namespace {

constexpr size_t kMaxTemplateBytes = 1'000'000;
constexpr JsonLimits kConfigLimits{.max_bytes = 20'000'000};  // tokenizer_config.json lists every added token
constexpr JsonLimits kRequestLimits{.max_bytes = 100'000'000};

using chat::Value;
using Variables = std::vector<std::pair<std::string, Value>>;

bool is_plain_word(std::string_view text) {
  for (char c : text)
    if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') && c != '_' && c != '-')
      return false;
  return true;
}

// The special tokens that transformers gives to a template: every "..._token" that is a string or has a
// content.
Variables special_tokens(const Json& config) {
  Variables variables;
  for (const auto& [name, value] : config.get_ref<const Json::object_t&>()) {
    if (!name.ends_with("_token")) continue;
    const Json* content = value.is_object() && value.contains("content") ? &value["content"] : &value;
    if (content->is_string())
      variables.emplace_back(name, Value::text(content->get_ref<const std::string&>()));
  }
  return variables;
}

// chat_template is a string, or a list of {"name", "template"} of which "default" is meant.
std::string template_of_config(const JsonObject& config) {
  const Json* value = config.find("chat_template");
  if (!value) return "";
  if (value->is_string()) return value->get<std::string>();
  size_t index = 0;
  for (const Json& element : config.required_array("chat_template")) {
    const JsonObject entry(element, config.what(), fmt::format("chat_template[{}]", index++));
    if (entry.required_string("name") == "default") return entry.required_string("template");
  }
  config.reject("chat_template", "a template named \"default\"");
}

// A request is at fault, not a model, where its JSON is malformed.
Json parse_request(const std::string& text, const std::string& what) {
  try {
    return parse_json(text, what, kRequestLimits);
  } catch (const Error& error) {
    throw Error(ErrorCode::invalid_argument, error.what());
  }
}

Value message_value(const ChatMessage& message, size_t index) {
  chat::Members members;
  const auto text = [](const std::string& content, bool outside) {
    return Value::text(MarkedText(to_valid_utf8(content), outside));
  };
  const auto set = [&](const std::string& key, Value value) {
    for (auto& [known, old] : members)
      if (known.as_text().text == key) {
        old = std::move(value);
        return;
      }
    members.emplace_back(Value::text(key), std::move(value));
  };
  set("role", text(message.role, !is_plain_word(message.role)));
  set("content", text(message.content, true));
  if (message.extra_json.empty()) return Value::dict(std::move(members));
  const std::string what = fmt::format("messages[{}]", index);
  const Json extra = parse_request(message.extra_json, what);
  if (!extra.is_object())
    fail(ErrorCode::invalid_argument, "{}: expected a JSON object, found {}", what, describe_json(extra));
  for (const auto& [key, value] : extra.get_ref<const Json::object_t&>()) {
    const bool role =
        key == "role" && value.is_string() && is_plain_word(value.get_ref<const std::string&>());
    set(key, Value::from_json(value, !role));
  }
  return Value::dict(std::move(members));
}

Variables request_variables(std::span<const ChatMessage> messages, const ChatOptions& options) {
  Variables variables;
  chat::Values list;
  for (size_t i = 0; i < messages.size(); ++i) list.push_back(message_value(messages[i], i));
  variables.emplace_back("messages", Value::sequence(Value::Kind::list, std::move(list)));
  Value tools = Value::none();
  if (!options.tools_json.empty()) {
    const Json json = parse_request(options.tools_json, "tools");
    if (!json.is_array())
      fail(ErrorCode::invalid_argument, "tools: expected an array, found {}", describe_json(json));
    tools = Value::from_json(json, true);
  }
  variables.emplace_back("tools", std::move(tools));
  variables.emplace_back("documents", Value::none());
  variables.emplace_back("add_generation_prompt", Value::boolean(options.add_generation_prompt));
  if (options.kwargs_json.empty()) return variables;
  const Json kwargs = parse_request(options.kwargs_json, "chat template kwargs");
  if (!kwargs.is_object())
    fail(ErrorCode::invalid_argument, "chat template kwargs: expected an object, found {}",
         describe_json(kwargs));
  for (const auto& [key, value] : kwargs.get_ref<const Json::object_t&>()) {
    for (std::string_view taken : {"messages", "tools", "documents", "add_generation_prompt"})
      if (key == taken) fail(ErrorCode::invalid_argument, "chat template kwargs: {} cannot be set here", key);
    variables.emplace_back(key, Value::from_json(value, true));
  }
  return variables;
}

}  // namespace

struct ChatTemplate::State {
  std::string name;
  chat::Block body;
  Variables special_tokens;

  MarkedText render(std::span<const ChatMessage> messages, const ChatOptions& options) const {
    Variables variables = special_tokens;
    try {
      for (auto& variable : request_variables(messages, options)) variables.push_back(std::move(variable));
    } catch (const chat::ValueError& error) {
      fail(ErrorCode::invalid_argument, "messages: {}", error.message);
    }
    chat::Interpreter interpreter(name, chat::Budgets{});
    return interpreter.render(body, variables);
  }
};

ChatTemplate::ChatTemplate(std::shared_ptr<const State> state) : state_(std::move(state)) {}

namespace {

struct TemplateSource {
  std::string_view text;
  const std::string& name;
};

std::shared_ptr<const ChatTemplate::State> parse_source(const TemplateSource& source, Variables tokens) {
  const auto& [text, name] = source;
  if (text.size() > kMaxTemplateBytes)
    fail(ErrorCode::unsupported, "{}: expected a template of at most {} bytes, found {}", name,
         kMaxTemplateBytes, text.size());
  if (!is_valid_utf8(text)) fail(ErrorCode::unsupported, "{}: expected a template in UTF-8", name);
  return std::make_shared<const ChatTemplate::State>(
      ChatTemplate::State{name, chat::parse_template(text, name), std::move(tokens)});
}

}  // namespace

ChatTemplate ChatTemplate::from_text(std::string_view source, const std::string& name,
                                     std::string_view special_tokens_json) {
  Variables tokens;
  if (!special_tokens_json.empty()) {
    const Json json = parse_json(special_tokens_json, "special tokens", kConfigLimits);
    tokens = special_tokens(JsonObject(json, "special tokens").json());
  }
  return ChatTemplate(parse_source({source, name}, std::move(tokens)));
}

ChatTemplate ChatTemplate::load(const std::filesystem::path& model_dir,
                                const std::optional<std::filesystem::path>& override_file) {
  const auto config_path = model_dir / "tokenizer_config.json";
  Json config = Json::object();
  if (std::filesystem::exists(config_path)) config = read_json_file(config_path, kConfigLimits);
  const JsonObject object(config, config_path.string());
  const auto own_file = model_dir / "chat_template.jinja";
  std::string name, source;
  if (override_file) {
    name = override_file->string();
    source = read_text_file(*override_file, kMaxTemplateBytes);
  } else if (std::filesystem::exists(own_file)) {
    name = own_file.string();
    source = read_text_file(own_file, kMaxTemplateBytes);
  } else {
    name = config_path.string() + ": chat_template";
    source = template_of_config(object);
    if (!object.has("chat_template"))
      fail(ErrorCode::not_found,
           "{}: the model has no chat template: expected chat_template.jinja or chat_template in "
           "tokenizer_config.json, found neither",
           model_dir.string());
  }
  return ChatTemplate(parse_source({source, name}, special_tokens(config)));
}

std::vector<TextSegment> ChatTemplate::render(std::span<const ChatMessage> messages,
                                              const ChatOptions& options) const {
  const MarkedText text = state_->render(messages, options);
  std::vector<TextSegment> segments;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin + 1;
    while (end < text.size() && text.outside(end) == text.outside(begin)) ++end;
    segments.push_back({text.text.substr(begin, end - begin), !text.outside(begin)});
    begin = end;
  }
  return segments;
}

std::string ChatTemplate::render_text(std::span<const ChatMessage> messages,
                                      const ChatOptions& options) const {
  return state_->render(messages, options).text;
}

}  // namespace indexshare
