// SPDX-License-Identifier: Apache-2.0
// Filters over sequences.
#include <algorithm>

#include "base/check.h"
#include "text/letter_case.h"
#include "text/template_filters.h"
#include "text/template_text.h"

namespace indexshare::chat {

using Kind = Value::Kind;

namespace {

// "a.b.0": members and elements one after the other.
Value member_of(Interpreter& interpreter, Value value, const Value& path) {
  if (path.is_integral()) return interpreter.item(value, path);
  if (!path.is(Kind::text)) throw ValueError{"an attribute must be named by a string"};
  for (const MarkedText& part : split_at(interpreter, path.as_text(), ".", -1, false)) {
    const bool number = !part.text.empty() && part.text.size() < 10 &&
                        part.text.find_first_not_of("0123456789") == std::string::npos;
    value = interpreter.item(value, number ? Value::integer(std::stoll(part.text)) : Value::text(part));
  }
  return value;
}

Value key_of(Interpreter& interpreter, const Value& value, const Value* path, bool case_sensitive) {
  Value key = path && !path->is(Kind::none) ? member_of(interpreter, value, *path) : value;
  if (!case_sensitive && key.is(Kind::text))
    return interpreter.make_text(change_case(key.as_text(), LetterCase::lower));
  return key;
}

Value to_list(Values items) { return Value::sequence(Kind::list, std::move(items)); }

Value first(Interpreter& interpreter, const Value& in, const Arguments&) {
  const Values items = interpreter.iterate(in);
  return items.empty() ? Value::undefined("the first item of an empty sequence is undefined") : items.front();
}

Value last(Interpreter& interpreter, const Value& in, const Arguments&) {
  const Values items = interpreter.iterate(in);
  return items.empty() ? Value::undefined("the last item of an empty sequence is undefined") : items.back();
}

Value list(Interpreter& interpreter, const Value& in, const Arguments&) {
  return to_list(interpreter.iterate(in));
}

Value items(Interpreter& interpreter, const Value& in, const Arguments&) {
  if (in.is(Kind::undefined)) return Value::sequence(Kind::generator, {});
  if (!in.is(Kind::dict)) throw ValueError{"items takes a dict"};
  Values pairs;
  interpreter.charge(in.members().size());
  for (const auto& [key, member] : in.members()) pairs.push_back(Value::sequence(Kind::tuple, {key, member}));
  return Value::sequence(Kind::generator, std::move(pairs));
}

Value join(Interpreter& interpreter, const Value& in, const Arguments& arguments) {
  arguments.allow("join", {"d", "attribute"});
  Values parts = interpreter.iterate(in);
  const Value* attribute = arguments.find(1, "attribute");
  if (attribute && !attribute->is(Kind::none))
    for (Value& part : parts) part = member_of(interpreter, part, *attribute);
  const Value* separator = arguments.find(0, "d");
  return Value::text(
      join_texts(interpreter, parts, separator ? interpreter.print(*separator) : MarkedText()));
}

Value map(Interpreter& interpreter, const Value& in, const Arguments& arguments) {
  Values out;
  if (arguments.positional.empty()) {
    arguments.allow("map", {"", "attribute", "default"});
    const Value* attribute = arguments.find(1, "attribute");
    const Value* otherwise = arguments.find(2, "default");
    if (!attribute) throw ValueError{"map needs a filter or an attribute"};
    for (const Value& item : interpreter.iterate(in)) {
      Value member = member_of(interpreter, item, *attribute);
      out.push_back(otherwise && member.is(Kind::undefined) ? *otherwise : std::move(member));
    }
  } else {
    const Value& name = arguments.positional[0];
    if (!name.is(Kind::text)) throw ValueError{"map needs the name of a filter"};
    const Arguments rest{Values(arguments.positional.begin() + 1, arguments.positional.end()),
                         arguments.named};
    for (const Value& item : interpreter.iterate(in))
      out.push_back(apply_filter(interpreter, name.as_text().text, item, rest));
  }
  return Value::sequence(Kind::generator, std::move(out));
}

// select, reject and, with an attribute first, selectattr and rejectattr.
Value choose(Interpreter& interpreter, const Value& in, const Arguments& arguments, bool by_attribute,
             bool keep) {
  const size_t skip = by_attribute ? 1 : 0;
  if (arguments.positional.size() < skip) throw ValueError{"selectattr needs an attribute"};
  const bool tested = arguments.positional.size() > skip;
  std::string test;
  if (tested) {
    if (!arguments.positional[skip].is(Kind::text)) throw ValueError{"select needs the name of a test"};
    test = arguments.positional[skip].as_text().text;
  }
  Arguments rest;
  if (tested)
    rest.positional.assign(arguments.positional.begin() + static_cast<ptrdiff_t>(skip) + 1,
                           arguments.positional.end());
  Values out;
  for (const Value& item : interpreter.iterate(in)) {
    const Value value = by_attribute ? member_of(interpreter, item, arguments.positional[0]) : item;
    const bool holds = tested ? apply_test(interpreter, test, value, rest) : value.truth();
    if (holds == keep) out.push_back(item);
  }
  return Value::sequence(Kind::generator, std::move(out));
}

Value select(Interpreter& i, const Value& in, const Arguments& a) { return choose(i, in, a, false, true); }
Value reject(Interpreter& i, const Value& in, const Arguments& a) { return choose(i, in, a, false, false); }
Value selectattr(Interpreter& i, const Value& in, const Arguments& a) { return choose(i, in, a, true, true); }
Value rejectattr(Interpreter& i, const Value& in, const Arguments& a) {
  return choose(i, in, a, true, false);
}

Value reverse(Interpreter& interpreter, const Value& in, const Arguments&) {
  Values items = interpreter.iterate(in);
  std::reverse(items.begin(), items.end());
  if (!in.is(Kind::text)) return Value::sequence(Kind::generator, std::move(items));
  return Value::text(join_texts(interpreter, items, MarkedText()));
}

// Stable; `less` may throw, which std::stable_sort allows.
Values sorted(Interpreter& interpreter, const Values& items, const Value* attribute, bool case_sensitive,
              bool reversed) {
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : items)
    keyed.emplace_back(key_of(interpreter, item, attribute, case_sensitive), item);
  for (const auto& [key, item] : keyed) interpreter.charge(std::min(key.weight(), size_t{1} << 40) * 16);
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    return reversed ? compare(b.first, a.first) < 0 : compare(a.first, b.first) < 0;
  });
  Values out;
  for (auto& [key, item] : keyed) out.push_back(std::move(item));
  return out;
}

Value sort(Interpreter& interpreter, const Value& in, const Arguments& arguments) {
  arguments.allow("sort", {"reverse", "case_sensitive", "attribute"});
  return to_list(sorted(interpreter, interpreter.iterate(in), arguments.find(2, "attribute"),
                        arguments.truth(1, "case_sensitive", false), arguments.truth(0, "reverse", false)));
}

Value dictsort(Interpreter& interpreter, const Value& in, const Arguments& arguments) {
  arguments.allow("dictsort", {"case_sensitive", "by", "reverse"});
  if (!in.is(Kind::dict)) throw ValueError{"dictsort takes a dict"};
  const Value* by = arguments.find(1, "by");
  const Value index = Value::integer(by && by->is(Kind::text) && by->as_text().text == "value" ? 1 : 0);
  return to_list(sorted(interpreter, items(interpreter, in, {}).items(), &index,
                        arguments.truth(0, "case_sensitive", false), arguments.truth(2, "reverse", false)));
}

Value unique(Interpreter& interpreter, const Value& in, const Arguments& arguments) {
  arguments.allow("unique", {"case_sensitive", "attribute"});
  Values seen, out;
  for (const Value& item : interpreter.iterate(in)) {
    const Value key = key_of(interpreter, item, arguments.find(1, "attribute"),
                             arguments.truth(0, "case_sensitive", false));
    if (contains(interpreter, to_list(seen), key)) continue;
    seen.push_back(key);
    out.push_back(item);
  }
  return Value::sequence(Kind::generator, std::move(out));
}

Value extreme(Interpreter& interpreter, const Value& in, const Arguments& arguments, bool largest) {
  arguments.allow(largest ? "max" : "min", {"case_sensitive", "attribute"});
  const Values items = interpreter.iterate(in);
  if (items.empty()) return Value::undefined("the extreme of an empty sequence is undefined");
  const auto key = [&](const Value& item) {
    return key_of(interpreter, item, arguments.find(1, "attribute"),
                  arguments.truth(0, "case_sensitive", false));
  };
  size_t best = 0;
  for (size_t i = 1; i < items.size(); ++i) {
    interpreter.charge(items[i].weight());
    const int order = compare(key(items[i]), key(items[best]));
    if (largest ? order > 0 : order < 0) best = i;
  }
  return items[best];
}

Value smallest(Interpreter& i, const Value& in, const Arguments& a) { return extreme(i, in, a, false); }
Value largest(Interpreter& i, const Value& in, const Arguments& a) { return extreme(i, in, a, true); }

Value sum(Interpreter& interpreter, const Value& in, const Arguments& arguments) {
  arguments.allow("sum", {"attribute", "start"});
  const Value* attribute = arguments.find(0, "attribute");
  const Value* start = arguments.find(1, "start");
  Value total = start ? *start : Value::integer(0);
  for (const Value& item : interpreter.iterate(in))
    total =
        calculate(interpreter, "+", total,
                  attribute && !attribute->is(Kind::none) ? member_of(interpreter, item, *attribute) : item);
  return total;
}

}  // namespace

const std::map<std::string_view, Filter>& sequence_filters() {
  static const std::map<std::string_view, Filter> table = {{"dictsort", dictsort},
                                                           {"first", first},
                                                           {"items", items},
                                                           {"join", join},
                                                           {"last", last},
                                                           {"list", list},
                                                           {"map", map},
                                                           {"max", largest},
                                                           {"min", smallest},
                                                           {"reject", reject},
                                                           {"rejectattr", rejectattr},
                                                           {"reverse", reverse},
                                                           {"select", select},
                                                           {"selectattr", selectattr},
                                                           {"sort", sort},
                                                           {"sum", sum},
                                                           {"unique", unique}};
  return table;
}

}  // namespace indexshare::chat
