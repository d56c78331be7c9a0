// SPDX-License-Identifier: Apache-2.0
// Arithmetic, membership, slices and the methods of dicts, lists and loops, as Python has them.
#include <cmath>

#include "base/check.h"
#include "text/template_interpreter.h"
#include "text/unicode.h"

namespace indexshare::chat {

using Kind = Value::Kind;

namespace {

[[noreturn]] void refuse_operands(std::string_view op, const Value& left, const Value& right) {
  if (left.is(Kind::undefined)) refuse_undefined(left);
  if (right.is(Kind::undefined)) refuse_undefined(right);
  throw ValueError{
      fmt::format("operator {} does not take '{}' and '{}'", op, left.type_name(), right.type_name())};
}

int64_t power(int64_t base, int64_t exponent) {
  int64_t result = 1;
  for (int64_t i = 0; i < exponent && base != 1 && !(base == 0 && i > 0); ++i) {
    if (base == -1 && i >= 2) return exponent % 2 == 0 ? 1 : -1;
    if (__builtin_mul_overflow(result, base, &result)) throw ValueError{"an integer beyond 64 bits"};
  }
  return result;
}

Value integer_arithmetic(std::string_view op, int64_t a, int64_t b) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(a, b, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(a, b, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(a, b, &result);
  } else if (op == "**") {
    if (b < 0) return Value::real(std::pow(static_cast<double>(a), static_cast<double>(b)));
    result = power(a, b);
  } else {
    if (b == 0) throw ValueError{"division by zero"};
    if (op == "/") return Value::real(static_cast<double>(a) / static_cast<double>(b));
    if (b == -1) {  // INT64_MIN / -1 traps
      overflow = op == "//" && __builtin_sub_overflow(int64_t{0}, a, &result);
    } else {
      const int64_t remainder = a % b;
      const bool round_down = remainder != 0 && (remainder < 0) != (b < 0);
      result = op == "//" ? a / b - round_down : remainder + (round_down ? b : 0);
    }
  }
  if (overflow) throw ValueError{"an integer beyond 64 bits"};
  return Value::integer(result);
}

Value real_arithmetic(std::string_view op, double a, double b) {
  if (op == "+") return Value::real(a + b);
  if (op == "-") return Value::real(a - b);
  if (op == "*") return Value::real(a * b);
  if (op == "**") return Value::real(std::pow(a, b));
  if (b == 0) throw ValueError{"division by zero"};
  if (op == "/") return Value::real(a / b);
  if (op == "//") return Value::real(std::floor(a / b));
  const double remainder = std::fmod(a, b);
  return Value::real(remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder);
}

Value repeat(Interpreter& interpreter, const Value& value, int64_t times) {
  const auto count = static_cast<size_t>(std::max<int64_t>(times, 0));
  if (value.is(Kind::text)) {
    const size_t size = value.as_text().size();
    if (size > 0 && count > (size_t{1} << 40) / size) throw ValueError{"the template makes too long a text"};
    interpreter.charge_text(size * count);
    MarkedText text;
    for (size_t i = 0; i < count && size > 0; ++i) text.append(value.as_text());
    return Value::text(std::move(text));
  }
  const size_t size = value.items().size();
  if (size > 0 && count > (size_t{1} << 40) / size) throw ValueError{"the template takes too many steps"};
  interpreter.charge(size * count);
  Values items;
  for (size_t i = 0; i < count && size > 0; ++i)
    items.insert(items.end(), value.items().begin(), value.items().end());
  return Value::sequence(value.kind(), std::move(items));
}

}  // namespace

Value calculate(Interpreter& interpreter, std::string_view op, const Value& left, const Value& right) {
  if (op == "~") {
    MarkedText text = interpreter.print(left);
    text.append(interpreter.print(right));
    return interpreter.make_text(std::move(text));
  }
  if (left.is_number() && right.is_number()) {
    if (left.is(Kind::real) || right.is(Kind::real))
      return real_arithmetic(op, left.as_real(), right.as_real());
    return integer_arithmetic(op, left.as_integer(), right.as_integer());
  }
  const auto repeatable = [](const Value& v) {
    return v.is(Kind::text) || v.is(Kind::list) || v.is(Kind::tuple);
  };
  if (op == "+" && left.kind() == right.kind() && repeatable(left)) {
    if (left.is(Kind::text)) {
      interpreter.charge_text(left.as_text().size() + right.as_text().size());
      MarkedText text = left.as_text();
      text.append(right.as_text());
      return Value::text(std::move(text));
    }
    Values items = interpreter.iterate(left);
    const Values more = interpreter.iterate(right);
    items.insert(items.end(), more.begin(), more.end());
    return Value::sequence(left.kind(), std::move(items));
  }
  if (op == "*" && repeatable(left) && right.is_integral())
    return repeat(interpreter, left, right.as_integer());
  if (op == "*" && repeatable(right) && left.is_integral())
    return repeat(interpreter, right, left.as_integer());
  if (op == "%" && left.is(Kind::text)) throw ValueError{"formatting with % is not supported"};
  refuse_operands(op, left, right);
}

bool contains(Interpreter& interpreter, const Value& container, const Value& value) {
  switch (container.kind()) {
    case Kind::text:
      if (!value.is(Kind::text)) {
        if (value.is(Kind::undefined)) refuse_undefined(value);
        throw ValueError{fmt::format("'in' a string needs a string, found '{}'", value.type_name())};
      }
      interpreter.charge_scan(container.as_text());
      return container.as_text().text.find(value.as_text().text) != std::string::npos;
    case Kind::undefined:
      return false;
    case Kind::list:
    case Kind::tuple:
    case Kind::generator:
      interpreter.charge(container.items().size());
      for (const Value& item : container.items()) {
        interpreter.charge_comparison(item, value);
        if (item.equals(value)) return true;
      }
      return false;
    case Kind::dict:
      interpreter.charge(container.members().size());
      return container.find(value) != nullptr;
    default:
      throw ValueError{fmt::format("'in' does not take '{}'", container.type_name())};
  }
}

Value slice_of(Interpreter& interpreter, const Value& object, const Value& start, const Value& stop,
               const Value& step) {
  if (object.is(Kind::undefined)) refuse_undefined(object);
  const bool is_text = object.is(Kind::text);
  if (!is_text && !object.is(Kind::list) && !object.is(Kind::tuple))
    throw ValueError{fmt::format("'{}' object cannot be sliced", object.type_name())};
  for (const Value* bound : {&start, &stop, &step})
    if (!bound->is_integral() && !bound->is(Kind::none)) throw ValueError{"slice bounds must be integers"};
  const int64_t stride = step.is(Kind::none) ? 1 : step.as_integer();
  if (stride == 0) throw ValueError{"a slice's step cannot be zero"};
  if (is_text) interpreter.charge_scan(object.as_text());
  const auto size =
      static_cast<int64_t>(is_text ? count_characters(object.as_text().text) : object.items().size());
  const auto bound = [&](const Value& given, int64_t otherwise) {
    if (given.is(Kind::none)) return otherwise;
    const int64_t index = given.as_integer() < 0 ? given.as_integer() + size : given.as_integer();
    return std::clamp<int64_t>(index, stride > 0 ? 0 : -1, stride > 0 ? size : size - 1);
  };
  const int64_t from = bound(start, stride > 0 ? 0 : size - 1);
  const int64_t to = bound(stop, stride > 0 ? size : -1);
  if (is_text && stride == 1) {
    const size_t begin = character_offset(object.as_text().text, static_cast<size_t>(from));
    const size_t end = character_offset(object.as_text().text, static_cast<size_t>(std::max(from, to)));
    return interpreter.make_text(object.as_text().substr(begin, end - begin));
  }
  const Values items = interpreter.iterate(object);
  Values chosen;
  for (int64_t i = from; stride > 0 ? i < to : i > to;) {
    chosen.push_back(items[static_cast<size_t>(i)]);
    if (__builtin_add_overflow(i, stride, &i)) break;
  }
  if (!is_text) return Value::sequence(object.kind(), std::move(chosen));
  MarkedText text;
  for (const Value& c : chosen) text.append(c.as_text());
  return interpreter.make_text(std::move(text));
}

namespace {

Value dict_method(const Value& self, std::string_view name, const Arguments& arguments) {
  Values items;
  if (name == "get") {
    arguments.allow("get", {"key", "default"});
    const Value* key = arguments.find(0, "key");
    if (!key) throw ValueError{"get needs a key"};
    if (const Value* member = self.find(*key)) return *member;
    const Value* otherwise = arguments.find(1, "default");
    return otherwise ? *otherwise : Value::none();
  }
  arguments.allow(name, {});
  if (name == "copy") return self;
  if (name != "items" && name != "keys" && name != "values")
    throw ValueError{fmt::format("method '{}' of a dict is not allowed", name)};
  for (const auto& [key, member] : self.members()) {
    if (name == "items") items.push_back(Value::sequence(Kind::tuple, {key, member}));
    if (name == "keys") items.push_back(key);
    if (name == "values") items.push_back(member);
  }
  return Value::sequence(Kind::list, std::move(items));
}

Value sequence_method(const Value& self, std::string_view name, const Arguments& arguments) {
  if (name != "index" && name != "count")
    throw ValueError{fmt::format("method '{}' of a {} is not allowed", name, self.type_name())};
  arguments.allow(name, {"value"});
  const Value* wanted = arguments.find(0, "value");
  if (!wanted) throw ValueError{fmt::format("{} needs a value", name)};
  int64_t count = 0;
  for (size_t i = 0; i < self.items().size(); ++i) {
    if (!self.items()[i].equals(*wanted)) continue;
    if (name == "index") return Value::integer(static_cast<int64_t>(i));
    ++count;
  }
  if (name == "index") throw ValueError{"index: the value is not in the list"};
  return Value::integer(count);
}

Value loop_method(Loop& loop, std::string_view name, const Arguments& arguments) {
  const Values& given = arguments.positional;
  if (name == "cycle") {
    if (given.empty()) throw ValueError{"cycle needs values"};
    return given[loop.index % given.size()];
  }
  for (const Value& value : given)
    if (value.is(Kind::loop) || value.is(Kind::callable) || value.depth() > 0)
      throw ValueError{"changed takes plain values only"};
  const bool same = std::equal(given.begin(), given.end(), loop.changed.begin(), loop.changed.end(),
                               [](const Value& a, const Value& b) { return a.equals(b); });
  if (same && !given.empty()) return Value::boolean(false);
  loop.changed = given;
  return Value::boolean(true);
}

}  // namespace

Value Interpreter::call_method(const Value& self, std::string_view name, const Arguments& arguments) {
  switch (self.kind()) {
    case Kind::dict:
      charge(self.members().size());
      return dict_method(self, name, arguments);
    case Kind::list:
    case Kind::tuple:
      charge(self.weight());
      return sequence_method(self, name, arguments);
    case Kind::loop:
      return loop_method(*self.loop(), name, arguments);
    default:
      return call_text_method(*this, self.as_text(), name, arguments);
  }
}

}  // namespace indexshare::chat
