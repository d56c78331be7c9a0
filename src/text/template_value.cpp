// SPDX-License-Identifier: Apache-2.0
#include "text/template_value.h"

#include <algorithm>

namespace indexshare::chat {

Value Value::undefined(std::string hint) {
  Value value;
  value.pointer_ = std::make_shared<MarkedText>(MarkedText(hint));
  return value;
}

Value Value::none() {
  Value value;
  value.kind_ = Kind::none;
  return value;
}

Value Value::boolean(bool b) {
  Value value;
  value.kind_ = Kind::boolean;
  value.integer_ = b;
  return value;
}

Value Value::integer(int64_t i) {
  Value value;
  value.kind_ = Kind::integer;
  value.integer_ = i;
  return value;
}

Value Value::real(double d) {
  Value value;
  value.kind_ = Kind::real;
  value.real_ = d;
  return value;
}

void Value::contain(const Value& inner) {
  depth_ = std::max(depth_, inner.depth_ + 1);
  if (depth_ > kMaxValueDepth) throw ValueError{"values nested too deeply"};
  weight_ = std::min(weight_ + inner.weight_, size_t{1} << 50);
}

Value Value::text(MarkedText text) {
  Value value;
  value.kind_ = Kind::text;
  value.weight_ = 1 + text.size() / 16;
  value.pointer_ = std::make_shared<MarkedText>(std::move(text));
  return value;
}

Value Value::sequence(Kind kind, Values items) {
  Value value;
  value.kind_ = kind;
  for (const Value& item : items) value.contain(item);
  value.pointer_ = std::make_shared<Values>(std::move(items));
  return value;
}

Value Value::dict(Members members) {
  Value value;
  value.kind_ = Kind::dict;
  for (const auto& [key, member] : members) {
    value.contain(key);
    value.contain(member);
  }
  value.pointer_ = std::make_shared<Members>(std::move(members));
  return value;
}

Value Value::of(Namespace* space) {
  Value value;
  value.kind_ = Kind::name_space;
  value.pointer_ = std::shared_ptr<void>(std::shared_ptr<void>(), space);  // the interpreter owns it
  return value;
}

Value Value::of(std::shared_ptr<Loop> loop) {
  Value value;
  value.kind_ = Kind::loop;
  for (const Value& item : loop->items) value.contain(item);
  value.pointer_ = std::move(loop);
  return value;
}

Value Value::of(Callable callable) {
  Value value;
  value.kind_ = Kind::callable;
  value.contain(callable.self);
  value.pointer_ = std::make_shared<Callable>(std::move(callable));
  return value;
}

Value Value::from_json(const Json& json, bool outside) {
  switch (json.type()) {
    case Json::value_t::boolean:
      return boolean(json.get<bool>());
    case Json::value_t::number_integer:
      return integer(json.get<int64_t>());
    case Json::value_t::number_unsigned:
      if (json.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX))
        throw ValueError{"an integer beyond 64 bits"};
      return integer(json.get<int64_t>());
    case Json::value_t::number_float:
      return real(json.get<double>());
    case Json::value_t::string:
      return text(MarkedText(json.get_ref<const std::string&>(), outside));
    case Json::value_t::array: {
      Values items;
      for (const Json& item : json) items.push_back(from_json(item, outside));
      return sequence(Kind::list, std::move(items));
    }
    case Json::value_t::object: {
      Members members;
      for (const auto& [key, member] : json.get_ref<const Json::object_t&>())
        members.emplace_back(text(MarkedText(key, outside)), from_json(member, outside));
      return dict(std::move(members));
    }
    default:
      return none();
  }
}

const MarkedText& Value::as_text() const { return *static_cast<const MarkedText*>(pointer_.get()); }
const Values& Value::items() const { return *static_cast<const Values*>(pointer_.get()); }
const Members& Value::members() const { return *static_cast<const Members*>(pointer_.get()); }
const Callable& Value::callable() const { return *static_cast<const Callable*>(pointer_.get()); }

bool Value::truth() const {
  switch (kind_) {
    case Kind::undefined:
    case Kind::none:
      return false;
    case Kind::boolean:
    case Kind::integer:
      return integer_ != 0;
    case Kind::real:
      return real_ != 0;
    case Kind::text:
      return as_text().size() > 0;
    case Kind::list:
    case Kind::tuple:
      return !items().empty();
    case Kind::dict:
      return !members().empty();
    default:
      return true;
  }
}

bool Value::equals(const Value& other) const {
  if (is_number() && other.is_number()) {
    if (is(Kind::real) || other.is(Kind::real)) return as_real() == other.as_real();
    return integer_ == other.integer_;
  }
  if (kind_ != other.kind_) return false;
  switch (kind_) {
    case Kind::undefined:
    case Kind::none:
      return true;
    case Kind::text:
      return as_text().text == other.as_text().text;
    case Kind::list:
    case Kind::tuple:
      return std::equal(items().begin(), items().end(), other.items().begin(), other.items().end(),
                        [](const Value& a, const Value& b) { return a.equals(b); });
    case Kind::dict:
      if (members().size() != other.members().size()) return false;
      for (const auto& [key, member] : members()) {
        const Value* found = other.find(key);
        if (!found || !found->equals(member)) return false;
      }
      return true;
    default:
      return pointer_ == other.pointer_;
  }
}

const Value* Value::find(std::string_view key) const {
  for (const auto& [name, member] : members())
    if (name.is(Kind::text) && name.as_text().text == key) return &member;
  return nullptr;
}

const Value* Value::find(const Value& key) const {
  for (const auto& [name, member] : members())
    if (name.equals(key)) return &member;
  return nullptr;
}

std::string_view Value::type_name() const {
  switch (kind_) {
    case Kind::undefined:
      return "Undefined";
    case Kind::none:
      return "NoneType";
    case Kind::boolean:
      return "bool";
    case Kind::integer:
      return "int";
    case Kind::real:
      return "float";
    case Kind::text:
      return "str";
    case Kind::list:
      return "list";
    case Kind::tuple:
      return "tuple";
    case Kind::generator:
      return "generator";
    case Kind::dict:
      return "dict";
    case Kind::name_space:
      return "Namespace";
    case Kind::loop:
      return "LoopContext";
    case Kind::callable:
      return "function";
  }
  return "?";
}

int compare(const Value& a, const Value& b) {
  const auto sign = [](auto x, auto y) { return x < y ? -1 : x > y ? 1 : 0; };
  if (a.is_integral() && b.is_integral()) return sign(a.as_integer(), b.as_integer());
  if (a.is_number() && b.is_number()) return sign(a.as_real(), b.as_real());
  if (a.is(Value::Kind::text) && b.is(Value::Kind::text))  // UTF-8 sorts as code points do
    return sign(a.as_text().text.compare(b.as_text().text), 0);
  if (a.kind() == b.kind() && (a.is(Value::Kind::list) || a.is(Value::Kind::tuple))) {
    const size_t common = std::min(a.items().size(), b.items().size());
    for (size_t i = 0; i < common; ++i)
      if (!a.items()[i].equals(b.items()[i])) return compare(a.items()[i], b.items()[i]);
    return sign(a.items().size(), b.items().size());
  }
  throw ValueError{"cannot order '" + std::string(a.type_name()) + "' and '" + std::string(b.type_name()) +
                   "'"};
}

}  // namespace indexshare::chat
