// SPDX-License-Identifier: Apache-2.0
// The methods of strings.
#include <algorithm>

#include "base/check.h"
#include "text/letter_case.h"
#include "text/template_interpreter.h"
#include "text/template_text.h"
#include "text/unicode.h"

namespace indexshare::chat {

using Kind = Value::Kind;

namespace {

constexpr std::string_view kMethods[] = {
    "split",   "rsplit",  "splitlines", "strip",   "lstrip",     "rstrip",       "startswith",   "endswith",
    "replace", "upper",   "lower",      "title",   "capitalize", "join",         "find",         "rfind",
    "index",   "count",   "isdigit",    "isalpha", "isspace",    "removeprefix", "removesuffix", "partition",
    "format",  "isupper", "islower",    "isalnum", "isnumeric",  "isdecimal",    "encode",       "zfill"};

const MarkedText& text_argument(const Arguments& arguments, size_t index, std::string_view name,
                                std::string_view method) {
  const Value* value = arguments.find(index, name);
  if (!value || !value->is(Kind::text)) throw ValueError{fmt::format("{} needs a string", method)};
  return value->as_text();
}

Value texts(std::vector<MarkedText> parts, Interpreter& interpreter) {
  Values items;
  for (MarkedText& part : parts) items.push_back(interpreter.make_text(std::move(part)));
  return Value::sequence(Kind::list, std::move(items));
}

Value split(Interpreter& interpreter, const MarkedText& self, std::string_view name,
            const Arguments& arguments) {
  arguments.allow(name, {"sep", "maxsplit"});
  const int64_t limit = arguments.integer(1, "maxsplit", -1);
  const Value* separator = arguments.find(0, "sep");
  const bool from_right = name == "rsplit";
  if (!separator || separator->is(Kind::none))
    return texts(split_at_space(interpreter, self, limit, from_right), interpreter);
  const MarkedText& mark = text_argument(arguments, 0, "sep", name);
  if (mark.text.empty()) throw ValueError{fmt::format("{}: empty separator", name)};
  return texts(split_at(interpreter, self, mark.text, limit, from_right), interpreter);
}

bool has_affix(const MarkedText& self, const Value& affix, bool front, std::string_view name) {
  if (affix.is(Kind::tuple))
    return std::any_of(affix.items().begin(), affix.items().end(),
                       [&](const Value& one) { return has_affix(self, one, front, name); });
  if (!affix.is(Kind::text)) throw ValueError{fmt::format("{} needs a string", name)};
  const std::string& text = affix.as_text().text;
  return front ? self.text.starts_with(text) : self.text.ends_with(text);
}

Value strip(Interpreter& interpreter, const MarkedText& self, std::string_view name,
            const Arguments& arguments) {
  arguments.allow(name, {"chars"});
  const Value* characters = arguments.find(0, "chars");
  const bool given = characters && !characters->is(Kind::none);
  const std::string_view set = given ? std::string_view(text_argument(arguments, 0, "chars", name).text) : "";
  return interpreter.make_text(strip_text(self, given ? &set : nullptr, name != "rstrip", name != "lstrip"));
}

Value find(const MarkedText& self, std::string_view name, const Arguments& arguments) {
  arguments.allow(name, {"sub"});
  const std::string& wanted = text_argument(arguments, 0, "sub", name).text;
  const size_t at = name == "rfind" ? self.text.rfind(wanted) : self.text.find(wanted);
  if (at == std::string::npos) {
    if (name == "index") throw ValueError{"index: substring not found"};
    return Value::integer(-1);
  }
  return Value::integer(static_cast<int64_t>(count_characters(std::string_view(self.text).substr(0, at))));
}

Value count(const MarkedText& self, const Arguments& arguments) {
  arguments.allow("count", {"sub"});
  const std::string& wanted = text_argument(arguments, 0, "sub", "count").text;
  if (wanted.empty()) return Value::integer(static_cast<int64_t>(count_characters(self.text)) + 1);
  int64_t found = 0;
  for (size_t at = self.text.find(wanted); at != std::string::npos;
       at = self.text.find(wanted, at + wanted.size()))
    ++found;
  return Value::integer(found);
}

Value partition(Interpreter& interpreter, const MarkedText& self, const Arguments& arguments) {
  arguments.allow("partition", {"sep"});
  const MarkedText& mark = text_argument(arguments, 0, "sep", "partition");
  if (mark.text.empty()) throw ValueError{"partition: empty separator"};
  const size_t at = self.text.find(mark.text);
  if (at == std::string::npos)
    return Value::sequence(Kind::tuple, {Value::text(self), Value::text(""), Value::text("")});
  const size_t behind = at + mark.size();
  return Value::sequence(Kind::tuple, {interpreter.make_text(self.substr(0, at)), Value::text(mark),
                                       interpreter.make_text(self.substr(behind, self.size() - behind))});
}

// isdigit and its like: every character passes, and there is one.
Value every_character(const MarkedText& self, std::string_view name) {
  bool any = false, cased = false, all = true;
  for (size_t i = 0; i < self.size();) {
    const Utf8Step step = utf8_step(std::string_view(self.text).substr(i));
    const char32_t c = step.code_point;
    const bool digit = c >= '0' && c <= '9';
    any = true;
    if (name == "isspace") {
      all &= is_python_space(c);
    } else if (name == "isalpha") {
      all &= is_letter(c);
    } else if (name == "isalnum") {
      all &= is_letter(c) || digit;
    } else if (name == "isupper" || name == "islower") {
      const bool upper = lower_of(c) != c, lower = upper_of(c) != c;
      cased |= upper || lower;
      all &= name == "isupper" ? !lower : !upper;
    } else {
      all &= digit;
    }
    i += step.length;
  }
  if (name == "isupper" || name == "islower") return Value::boolean(all && cased);
  return Value::boolean(all && any);
}

}  // namespace

bool is_text_method(std::string_view name) {
  return std::find(std::begin(kMethods), std::end(kMethods), name) != std::end(kMethods);
}

Value call_text_method(Interpreter& interpreter, const MarkedText& self, std::string_view name,
                       const Arguments& arguments) {
  interpreter.charge_scan(self);
  if (name == "split" || name == "rsplit") return split(interpreter, self, name, arguments);
  if (name == "strip" || name == "lstrip" || name == "rstrip")
    return strip(interpreter, self, name, arguments);
  if (name == "startswith" || name == "endswith") {
    arguments.allow(name, {"affix"});
    if (arguments.positional.empty()) throw ValueError{fmt::format("{} needs a string", name)};
    return Value::boolean(has_affix(self, arguments.positional[0], name == "startswith", name));
  }
  if (name == "replace") {
    arguments.allow(name, {"old", "new", "count"});
    return Value::text(replace_text(interpreter, self, text_argument(arguments, 0, "old", name),
                                    text_argument(arguments, 1, "new", name),
                                    arguments.integer(2, "count", -1)));
  }
  if (name == "find" || name == "rfind" || name == "index") return find(self, name, arguments);
  if (name == "count") return count(self, arguments);
  if (name == "partition") return partition(interpreter, self, arguments);
  if (name == "removeprefix" || name == "removesuffix") {
    arguments.allow(name, {"affix"});
    const std::string& affix = text_argument(arguments, 0, "affix", name).text;
    const bool front = name == "removeprefix";
    if (!(front ? self.text.starts_with(affix) : self.text.ends_with(affix))) return Value::text(self);
    return interpreter.make_text(self.substr(front ? affix.size() : 0, self.size() - affix.size()));
  }
  if (name == "join") {
    arguments.allow(name, {"iterable"});
    if (arguments.positional.empty()) throw ValueError{"join needs a list"};
    const Values items = interpreter.iterate(arguments.positional[0]);
    for (const Value& item : items)
      if (!item.is(Kind::text))
        throw ValueError{fmt::format("join takes strings, found '{}'", item.type_name())};
    return Value::text(join_texts(interpreter, items, self));
  }
  if (name == "splitlines") {
    arguments.allow(name, {"keepends"});
    return texts(split_lines(interpreter, self, arguments.truth(0, "keepends", false)), interpreter);
  }
  arguments.allow(name, {});
  if (name == "upper") return interpreter.make_text(change_case(self, LetterCase::upper));
  if (name == "lower") return interpreter.make_text(change_case(self, LetterCase::lower));
  if (name == "title") return interpreter.make_text(title_case(self));
  if (name == "capitalize") return interpreter.make_text(capitalize(self));
  if (name.starts_with("is")) return every_character(self, name);
  throw ValueError{fmt::format("method '{}' of a string is not supported", name)};
}

}  // namespace indexshare::chat
