// SPDX-License-Identifier: Apache-2.0
// Expressions: names, attributes, calls.
#include <ctime>

#include "base/check.h"
#include "text/template_interpreter.h"
#include "text/unicode.h"

namespace indexshare::chat {

using Kind = Value::Kind;
using Node = Expression::Kind;

namespace {

constexpr int64_t kMaxRange = 100'000;  // as in Jinja's sandbox

bool is_dict_method(std::string_view name) {
  for (std::string_view method : {"get", "items", "keys", "values", "copy", "pop", "popitem", "clear",
                                  "update", "setdefault", "fromkeys"})
    if (name == method) return true;
  return false;
}

bool is_list_method(std::string_view name) {
  for (std::string_view method :
       {"index", "count", "append", "extend", "insert", "pop", "remove", "clear", "copy", "reverse", "sort"})
    if (name == method) return true;
  return false;
}

Value method(const Value& self, std::string_view name) {
  return Value::of(Callable{Callable::Kind::method, std::string(name), self, nullptr});
}

Value loop_member(const Loop& loop, std::string_view name) {
  const auto index = static_cast<int64_t>(loop.index);
  const auto length = static_cast<int64_t>(loop.items.size());
  if (name == "index") return Value::integer(index + 1);
  if (name == "index0") return Value::integer(index);
  if (name == "revindex") return Value::integer(length - index);
  if (name == "revindex0") return Value::integer(length - index - 1);
  if (name == "first") return Value::boolean(index == 0);
  if (name == "last") return Value::boolean(index + 1 == length);
  if (name == "length") return Value::integer(length);
  if (name == "depth") return Value::integer(1);
  if (name == "depth0") return Value::integer(0);
  if (name == "previtem")
    return index > 0 ? loop.items[loop.index - 1] : Value::undefined("there is no previous item");
  if (name == "nextitem")
    return index + 1 < length ? loop.items[loop.index + 1] : Value::undefined("there is no next item");
  return Value::undefined(fmt::format("'loop' has no attribute '{}'", name));
}

}  // namespace

void refuse_undefined(const Value& value) {
  const std::string& hint = value.as_text().text;
  throw ValueError{hint.empty() ? "an undefined value is used" : hint};
}

Value Interpreter::lookup(const std::string& name) const {
  for (const Scope* scope = scope_; scope; scope = scope->parent)
    for (const auto& [known, value] : scope->variables)
      if (known == name) return value;
  return Value::undefined(fmt::format("'{}' is undefined", name));
}

Value Interpreter::evaluate(const Expression& e) {
  charge(1);
  line_ = e.line;
  if (++depth_ > budgets_.depth) throw ValueError{"nested too deeply"};
  Value value = evaluate_node(e);
  --depth_;
  return value;
}

Value Interpreter::evaluate_node(const Expression& e) {
  switch (e.kind) {
    case Node::constant:
      return e.value;
    case Node::name:
      return lookup(e.name);
    case Node::list:
    case Node::tuple:
    case Node::dict:
      return container(e);
    case Node::attribute:
      return attribute(evaluate(*e.children[0]), e.name);
    case Node::item: {
      const Value object = evaluate(*e.children[0]);
      return item(object, evaluate(*e.children[1]));
    }
    case Node::slice:
      return slice(e);
    case Node::call:
      return call(e);
    case Node::filter:
      return filter(e, nullptr);
    case Node::test:
      return test(e);
    case Node::negate: {
      const Value value = evaluate(*e.children[0]);
      if (e.name == "-") return calculate(*this, "-", Value::integer(0), value);
      return calculate(*this, "+", Value::integer(0), value);
    }
    case Node::logical_not:
      return Value::boolean(!evaluate(*e.children[0]).truth());
    case Node::logical_and: {
      Value left = evaluate(*e.children[0]);
      return left.truth() ? evaluate(*e.children[1]) : left;
    }
    case Node::logical_or: {
      Value left = evaluate(*e.children[0]);
      return left.truth() ? left : evaluate(*e.children[1]);
    }
    case Node::arithmetic:
      return arithmetic(e);
    case Node::comparison:
      return comparison(e);
    case Node::conditional:
      if (evaluate(*e.children[0]).truth()) return evaluate(*e.children[1]);
      return e.children[2] ? evaluate(*e.children[2]) : Value::undefined("the inline if has no else");
  }
  return {};
}

Value Interpreter::container(const Expression& e) {
  if (e.kind == Node::dict) {
    Members members;
    for (size_t i = 0; i < e.children.size(); i += 2) {
      const Value key = evaluate(*e.children[i]);
      Value value = evaluate(*e.children[i + 1]);
      charge(members.size() / 16 + 1);
      const auto same =
          std::find_if(members.begin(), members.end(), [&](auto& m) { return m.first.equals(key); });
      if (same == members.end()) {
        members.emplace_back(key, std::move(value));
      } else {
        same->second = std::move(value);
      }
    }
    return Value::dict(std::move(members));
  }
  Values items;
  for (const ExpressionPtr& child : e.children) items.push_back(evaluate(*child));
  return Value::sequence(e.kind == Node::list ? Kind::list : Kind::tuple, std::move(items));
}

Value Interpreter::arithmetic(const Expression& e) {
  const Value left = evaluate(*e.children[0]);
  const Value right = evaluate(*e.children[1]);
  return calculate(*this, e.name, left, right);
}

Value Interpreter::comparison(const Expression& e) {
  Value left = evaluate(*e.children[0]);
  for (size_t i = 0; i < e.names.size(); ++i) {
    Value right = evaluate(*e.children[i + 1]);
    const std::string& op = e.names[i];
    bool holds;
    if (op == "==" || op == "!=") {
      charge_comparison(left, right);
      holds = left.equals(right) == (op == "==");
    } else if (op == "in" || op == "not in") {
      holds = contains(*this, right, left) == (op == "in");
    } else {
      if (left.is(Kind::undefined)) refuse_undefined(left);
      if (right.is(Kind::undefined)) refuse_undefined(right);
      charge_comparison(left, right);
      const int order = compare(left, right);
      holds = op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0;
    }
    if (!holds) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

Value Interpreter::filter(const Expression& e, const Value* text) {
  if (e.kind != Node::filter) throw ValueError{"only filters can follow here"};
  const Expression* child = e.children[0].get();
  const Value input = !child ? *text : text ? filter(*child, text) : evaluate(*child);
  const Arguments arguments = arguments_of(e);
  line_ = e.line;
  return apply_filter(*this, e.name, input, arguments);
}

Value Interpreter::test(const Expression& e) {
  const Value input = evaluate(*e.children[0]);
  const Arguments arguments = arguments_of(e);
  return Value::boolean(apply_test(*this, e.name, input, arguments) != e.negated);
}

Value Interpreter::slice(const Expression& e) {
  const Value object = evaluate(*e.children[0]);
  Values bounds;
  for (size_t i = 1; i < 4; ++i) bounds.push_back(e.children[i] ? evaluate(*e.children[i]) : Value::none());
  return slice_of(*this, object, bounds[0], bounds[1], bounds[2]);
}

Value Interpreter::attribute(const Value& object, std::string_view name) {
  if (object.is(Kind::undefined)) refuse_undefined(object);
  if (name.starts_with("__")) throw ValueError{fmt::format("access to attribute '{}' is not allowed", name)};
  const auto missing = [&] {
    return Value::undefined(fmt::format("'{}' object has no attribute '{}'", object.type_name(), name));
  };
  switch (object.kind()) {
    case Kind::dict: {
      if (is_dict_method(name)) return method(object, name);
      charge(object.members().size() / 16 + 1);
      const Value* member = object.find(name);
      return member ? *member : missing();
    }
    case Kind::text:
      return is_text_method(name) ? method(object, name) : missing();
    case Kind::list:
      return is_list_method(name) ? method(object, name) : missing();
    case Kind::tuple:
      return name == "index" || name == "count" ? method(object, name) : missing();
    case Kind::name_space:
      for (const auto& [known, member] : object.name_space()->members)
        if (known == name) return member;
      return missing();
    case Kind::loop:
      if (name == "cycle" || name == "changed") return method(object, name);
      return loop_member(*object.loop(), name);
    default:
      return missing();
  }
}

Value Interpreter::item(const Value& object, const Value& key) {
  if (object.is(Kind::undefined)) refuse_undefined(object);
  if (object.is(Kind::dict)) {
    charge(object.members().size() / 16 + 1);
    if (const Value* member = object.find(key)) return *member;
  } else if (key.is_integral() && (object.is_sequence() || object.is(Kind::text))) {
    const bool is_text = object.is(Kind::text);
    if (object.is(Kind::generator)) throw ValueError{"a generator has no items by number, it needs |list"};
    if (is_text) charge_scan(object.as_text());
    const auto size =
        static_cast<int64_t>(is_text ? count_characters(object.as_text().text) : object.items().size());
    const int64_t index = key.as_integer() < 0 ? key.as_integer() + size : key.as_integer();
    if (index < 0 || index >= size)
      return Value::undefined(
          fmt::format("'{}' object has no element {}", object.type_name(), key.as_integer()));
    if (!is_text) return object.items()[static_cast<size_t>(index)];
    const size_t begin = character_offset(object.as_text().text, static_cast<size_t>(index));
    const size_t length = utf8_step(std::string_view(object.as_text().text).substr(begin)).length;
    return Value::text(object.as_text().substr(begin, length));
  }
  if (key.is(Kind::text)) return attribute(object, key.as_text().text);
  return Value::undefined(fmt::format("'{}' object has no such element", object.type_name()));
}

Values Interpreter::iterate(const Value& value) {
  Values items;
  switch (value.kind()) {
    case Kind::undefined:
      return {};
    case Kind::list:
    case Kind::tuple:
    case Kind::generator:
      charge(value.items().size());
      return value.items();
    case Kind::dict:
      charge(value.members().size());
      for (const auto& [key, member] : value.members()) items.push_back(key);
      return items;
    case Kind::text: {
      const MarkedText& text = value.as_text();
      charge(text.size());
      for (size_t i = 0; i < text.size();) {
        const size_t length = utf8_step(std::string_view(text.text).substr(i)).length;
        items.push_back(Value::text(text.substr(i, length)));
        i += length;
      }
      return items;
    }
    default:
      throw ValueError{fmt::format("'{}' object is not iterable", value.type_name())};
  }
}

Arguments Interpreter::arguments_of(const Expression& e) {
  Arguments arguments;
  for (size_t i = 1; i < e.children.size(); ++i) arguments.positional.push_back(evaluate(*e.children[i]));
  for (const auto& [name, value] : e.named) arguments.named.emplace_back(name, evaluate(*value));
  return arguments;
}

Value Interpreter::call(const Expression& e) {
  const Value callee = evaluate(*e.children[0]);
  if (callee.is(Kind::undefined)) refuse_undefined(callee);
  if (!callee.is(Kind::callable))
    throw ValueError{fmt::format("'{}' object is not callable", callee.type_name())};
  const Arguments arguments = arguments_of(e);
  line_ = e.line;
  const Callable& callable = callee.callable();
  switch (callable.kind) {
    case Callable::Kind::function:
      return call_function(callable.name, arguments);
    case Callable::Kind::method:
      return call_method(callable.self, callable.name, arguments);
    case Callable::Kind::macro:
      return call_macro(*callable.macro, arguments);
  }
  return {};
}

Value Interpreter::make_namespace(const Arguments& arguments) {
  Namespace space;
  for (const Value& given : arguments.positional) {
    if (!given.is(Kind::dict)) throw ValueError{"namespace takes a dict or named values"};
    for (const auto& [key, member] : given.members())
      if (key.is(Kind::text)) space.members.emplace_back(key.as_text().text, member);
  }
  for (const auto& [name, value] : arguments.named) space.members.emplace_back(name, value);
  return Value::of(&namespaces_.emplace_back(std::move(space)));
}

Value Interpreter::call_function(const std::string& name, const Arguments& arguments) {
  if (name == "namespace") return make_namespace(arguments);
  if (name == "dict") {
    Members members;
    for (const auto& [key, value] : arguments.named) members.emplace_back(Value::text(key), value);
    if (!arguments.positional.empty()) throw ValueError{"dict takes named values only"};
    return Value::dict(std::move(members));
  }
  if (name == "raise_exception") {
    arguments.allow(name, {"message"});
    const Value* message = arguments.find(0, "message");
    throw Refusal{message ? print(*message).text : "no reason given"};
  }
  if (name == "strftime_now") {
    arguments.allow(name, {"format"});
    const Value* format = arguments.find(0, "format");
    if (!format || !format->is(Kind::text)) throw ValueError{"strftime_now needs a format"};
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    localtime_r(&now, &local);
    char buffer[256];
    return Value::text(std::string_view(
        buffer, std::strftime(buffer, sizeof buffer, format->as_text().text.c_str(), &local)));
  }
  arguments.allow("range", {"start", "stop", "step"});  // the one left
  const int64_t first = arguments.integer(0, "start", 0);
  const bool one = arguments.positional.size() == 1;
  const int64_t start = one ? 0 : first, stop = one ? first : arguments.integer(1, "stop", 0);
  const int64_t step = arguments.integer(2, "step", 1);
  if (arguments.positional.empty() || step == 0)
    throw ValueError{"range needs an end and a step other than 0"};
  const auto distance = static_cast<__int128>(stop) - start;
  const __int128 count = (distance + step + (step > 0 ? -1 : 1)) / step;
  if (count > kMaxRange)
    throw ValueError{fmt::format("range is too big, at most {} items are allowed", kMaxRange)};
  Values items;
  for (int64_t i = 0; i < static_cast<int64_t>(count); ++i) items.push_back(Value::integer(start + i * step));
  charge(items.size());
  return Value::sequence(Kind::list, std::move(items));
}

}  // namespace indexshare::chat
