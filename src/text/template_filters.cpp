// SPDX-License-Identifier: Apache-2.0
// Jinja's filters, and tojson as transformers replaces it.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>

#include "base/check.h"
#include "text/letter_case.h"
#include "text/template_interpreter.h"
#include "text/template_text.h"
#include "text/unicode.h"

namespace indexshare::chat {

using Kind = Value::Kind;

namespace {

using Filter = Value (*)(Interpreter&, const Value&, const Arguments&);

// "a.b.0": members and elements one after the other.
Value member_of(Interpreter& interpreter, Value value, const Value& path) {
  if (path.is_integral()) return interpreter.item(value, path);
  if (!path.is(Kind::text)) throw ValueError{"an attribute must be named by a string"};
  for (const MarkedText& part : split_at(path.as_text(), ".", -1, false)) {
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

Value length(Interpreter&, const Value& in, const Arguments& arguments) {
  arguments.allow("length", {});
  if (in.is(Kind::text)) return Value::integer(static_cast<int64_t>(count_characters(in.as_text().text)));
  if (in.is(Kind::list) || in.is(Kind::tuple)) return Value::integer(static_cast<int64_t>(in.items().size()));
  if (in.is(Kind::dict)) return Value::integer(static_cast<int64_t>(in.members().size()));
  if (in.is(Kind::undefined)) return Value::integer(0);
  throw ValueError{fmt::format("'{}' object has no length", in.type_name())};
}

Value default_value(Interpreter&, const Value& in, const Arguments& arguments) {
  arguments.allow("default", {"default_value", "boolean"});
  const bool replace = in.is(Kind::undefined) || (arguments.truth(1, "boolean", false) && !in.truth());
  if (!replace) return in;
  const Value* otherwise = arguments.find(0, "default_value");
  return otherwise ? *otherwise : Value::text("");
}

Value trim(Interpreter& interpreter, const Value& in, const Arguments& arguments) {
  arguments.allow("trim", {"chars"});
  const Value* characters = arguments.find(0, "chars");
  if (!characters || characters->is(Kind::none))
    return interpreter.make_text(strip_text(interpreter.print(in), nullptr, true, true));
  if (!characters->is(Kind::text)) throw ValueError{"trim: 'chars' must be a string"};
  const std::string_view set = characters->as_text().text;
  return interpreter.make_text(strip_text(interpreter.print(in), &set, true, true));
}

Value upper(Interpreter& interpreter, const Value& in, const Arguments&) {
  return interpreter.make_text(change_case(interpreter.print(in), LetterCase::upper));
}

Value lower(Interpreter& interpreter, const Value& in, const Arguments&) {
  return interpreter.make_text(change_case(interpreter.print(in), LetterCase::lower));
}

Value capitalized(Interpreter& interpreter, const Value& in, const Arguments&) {
  return interpreter.make_text(capitalize(interpreter.print(in)));
}

// Unlike str.title a word begins only behind white space or one of -({[<.
Value title(Interpreter& interpreter, const Value& in, const Arguments&) {
  const MarkedText text = interpreter.print(in);
  MarkedText out;
  bool begins = true;
  for (size_t i = 0; i < text.size();) {
    const Utf8Step step = utf8_step(std::string_view(text.text).substr(i));
    out.append(change_case(text.substr(i, step.length), begins ? LetterCase::upper : LetterCase::lower));
    begins = is_python_space(step.code_point) ||
             (step.code_point < 0x80 &&
              std::string_view("-({[<").find(static_cast<char>(step.code_point)) != std::string_view::npos);
    i += step.length;
  }
  return interpreter.make_text(std::move(out));
}

Value replace(Interpreter& interpreter, const Value& in, const Arguments& arguments) {
  arguments.allow("replace", {"old", "new", "count"});
  const Value *from = arguments.find(0, "old"), *to = arguments.find(1, "new");
  if (!from || !to) throw ValueError{"replace needs two strings"};
  return Value::text(replace_text(interpreter, interpreter.print(in), interpreter.print(*from),
                                  interpreter.print(*to), arguments.integer(2, "count", -1)));
}

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

Value string(Interpreter& interpreter, const Value& in, const Arguments&) {
  return Value::text(interpreter.print(in));
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

Value integer(Interpreter&, const Value& in, const Arguments& arguments) {
  arguments.allow("int", {"default", "base"});
  const Value* given = arguments.find(0, "default");
  const Value otherwise = given ? *given : Value::integer(0);
  if (in.is_integral()) return Value::integer(in.as_integer());
  double real = 0;
  if (in.is(Kind::real)) {
    real = in.as_real();
  } else if (in.is(Kind::text)) {
    const std::string text = strip_text(in.as_text(), nullptr, true, true).text;
    const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
    const char* end = text.data() + text.size();
    int64_t whole = 0;
    const auto parsed = std::from_chars(begin, end, whole);
    if (begin != end && parsed.ec == std::errc() && parsed.ptr == end) return Value::integer(whole);
    const auto parsed_real = std::from_chars(begin, end, real);
    if (begin == end || parsed_real.ec != std::errc() || parsed_real.ptr != end) return otherwise;
  } else {
    return otherwise;
  }
  if (!(std::fabs(real) < 9.2e18)) return otherwise;
  return Value::integer(static_cast<int64_t>(real));
}

Value real(Interpreter&, const Value& in, const Arguments& arguments) {
  arguments.allow("float", {"default"});
  const Value* given = arguments.find(0, "default");
  const Value otherwise = given ? *given : Value::real(0);
  if (in.is_number()) return Value::real(in.as_real());
  if (!in.is(Kind::text)) return otherwise;
  const std::string text = strip_text(in.as_text(), nullptr, true, true).text;
  const char* begin = text.data() + (text.starts_with('+') ? 1 : 0);
  double value = 0;
  const auto parsed = std::from_chars(begin, text.data() + text.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) return otherwise;
  return Value::real(value);
}

Value absolute(Interpreter& interpreter, const Value& in, const Arguments&) {
  if (in.is(Kind::real)) return Value::real(std::fabs(in.as_real()));
  if (!in.is_integral()) throw ValueError{"abs takes a number"};
  return in.as_integer() < 0 ? calculate(interpreter, "-", Value::integer(0), in)
                             : Value::integer(in.as_integer());
}

Value round_number(Interpreter&, const Value& in, const Arguments& arguments) {
  arguments.allow("round", {"precision", "method"});
  if (!in.is_number()) throw ValueError{"round takes a number"};
  const int64_t precision = arguments.integer(0, "precision", 0);
  if (precision < -300 || precision > 300) throw ValueError{"round: precision out of range"};
  const Value* method = arguments.find(1, "method");
  const std::string how = method && method->is(Kind::text) ? method->as_text().text : "common";
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (how == "common" && in.is_integral() && precision >= 0) return Value::integer(in.as_integer());
  const double scaled = in.as_real() * scale;
  if (how == "common") return Value::real(std::nearbyint(scaled) / scale);
  if (how != "ceil" && how != "floor") throw ValueError{"round: method must be common, ceil or floor"};
  return Value::real((how == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale);
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
  interpreter.charge(items.size() * 16);
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

Value indent(Interpreter& interpreter, const Value& in, const Arguments& arguments) {
  arguments.allow("indent", {"width", "first", "blank"});
  const Value* width = arguments.find(0, "width");
  MarkedText margin;
  if (width && width->is(Kind::text)) {
    margin = width->as_text();
  } else {
    const int64_t count = arguments.integer(0, "width", 4);
    if (count > 1000) throw ValueError{"indent: width out of range"};
    margin.append(std::string(static_cast<size_t>(std::max<int64_t>(count, 0)), ' '));
  }
  const bool blank = arguments.truth(2, "blank", false);
  MarkedText text = interpreter.print(in), out;
  text.append("\n");
  const auto lines = split_lines(text, false);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i) out.append("\n");
    if (i ? blank || lines[i].size() > 0 : arguments.truth(1, "first", false)) {
      interpreter.charge_text(margin.size());
      out.append(margin);
    }
    out.append(lines[i]);
  }
  return interpreter.make_text(std::move(out));
}

Value escape(Interpreter& interpreter, const Value& in, const Arguments&) {
  constexpr std::pair<std::string_view, std::string_view> kEntities[] = {
      {"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&#34;"}, {"'", "&#39;"}};
  MarkedText text = interpreter.print(in);
  for (const auto& [character, entity] : kEntities)
    text = replace_text(interpreter, text, MarkedText(character), MarkedText(entity), -1);
  return Value::text(std::move(text));
}

Value wordcount(Interpreter& interpreter, const Value& in, const Arguments&) {
  return Value::integer(static_cast<int64_t>(split_at_space(interpreter.print(in), -1, false).size()));
}

Value tojson(Interpreter& interpreter, const Value& in, const Arguments& arguments) {
  arguments.allow("tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = arguments.truth(0, "ensure_ascii", false);
  style.sort_keys = arguments.truth(3, "sort_keys", false);
  if (const Value* margin = arguments.find(1, "indent"); margin && !margin->is(Kind::none)) {
    style.pretty = true;
    style.item_separator = ",";
    if (margin->is(Kind::text)) {
      style.indent = margin->as_text().text;
    } else {
      const int64_t width = arguments.integer(1, "indent", 0);
      if (width > 100) throw ValueError{"tojson: indent out of range"};
      style.indent.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
    }
  }
  if (const Value* separators = arguments.find(2, "separators"); separators && !separators->is(Kind::none)) {
    const Values pair = interpreter.iterate(*separators);
    if (pair.size() != 2 || !pair[0].is(Kind::text) || !pair[1].is(Kind::text))
      throw ValueError{"tojson: separators must be two strings"};
    style.item_separator = pair[0].as_text().text;
    style.key_separator = pair[1].as_text().text;
  }
  return interpreter.make_text(to_json(in, style));
}

const std::map<std::string_view, Filter>& filters() {
  static const std::map<std::string_view, Filter> table = {{"abs", absolute},
                                                           {"capitalize", capitalized},
                                                           {"count", length},
                                                           {"d", default_value},
                                                           {"default", default_value},
                                                           {"dictsort", dictsort},
                                                           {"e", escape},
                                                           {"escape", escape},
                                                           {"first", first},
                                                           {"float", real},
                                                           {"indent", indent},
                                                           {"int", integer},
                                                           {"items", items},
                                                           {"join", join},
                                                           {"last", last},
                                                           {"length", length},
                                                           {"list", list},
                                                           {"lower", lower},
                                                           {"map", map},
                                                           {"max", largest},
                                                           {"min", smallest},
                                                           {"reject", reject},
                                                           {"rejectattr", rejectattr},
                                                           {"replace", replace},
                                                           {"reverse", reverse},
                                                           {"round", round_number},
                                                           {"safe", string},
                                                           {"select", select},
                                                           {"selectattr", selectattr},
                                                           {"sort", sort},
                                                           {"string", string},
                                                           {"sum", sum},
                                                           {"title", title},
                                                           {"tojson", tojson},
                                                           {"trim", trim},
                                                           {"unique", unique},
                                                           {"upper", upper},
                                                           {"wordcount", wordcount}};
  return table;
}

}  // namespace

Value apply_filter(Interpreter& interpreter, std::string_view name, const Value& input,
                   const Arguments& arguments) {
  interpreter.charge(1);
  const auto found = filters().find(name);
  if (found == filters().end())
    throw ValueError{fmt::format("the filter '{}' is unknown or not supported", name)};
  return found->second(interpreter, input, arguments);
}

}  // namespace indexshare::chat
