// SPDX-License-Identifier: Apache-2.0
// Jinja's filters, and tojson as transformers replaces it.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/check.h"
#include "text/letter_case.h"
#include "text/template_filters.h"
#include "text/template_text.h"
#include "text/unicode.h"

namespace indexshare::chat {

using Kind = Value::Kind;

namespace {

Value length(Interpreter& interpreter, const Value& in, const Arguments& arguments) {
  arguments.allow("length", {});
  if (in.is(Kind::text)) interpreter.charge_scan(in.as_text());
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

Value string(Interpreter& interpreter, const Value& in, const Arguments&) {
  return Value::text(interpreter.print(in));
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
  const auto lines = split_lines(interpreter, text, false);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i) out.append("\n");
    if (i ? blank || lines[i].size() > 0 : arguments.truth(1, "first", false)) {
      interpreter.charge_text(margin.size());
      interpreter.check_length(out.size() + margin.size());
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
  return Value::integer(
      static_cast<int64_t>(split_at_space(interpreter, interpreter.print(in), -1, false).size()));
}

Value tojson(Interpreter& interpreter, const Value& in, const Arguments& arguments) {
  arguments.allow("tojson", {"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ensure_ascii = arguments.truth(0, "ensure_ascii", false);
  style.sort_keys = arguments.truth(3, "sort_keys", false);
  if (const Value* margin = arguments.find(1, "indent"); margin && !margin->is(Kind::none)) {
    style.pretty = true;
    style.item_separator.assign(1, ',');  // a literal sets off g++ 12's -Wrestrict
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
  interpreter.charge(in.weight());
  return interpreter.make_text(to_json(in, style));
}

const std::map<std::string_view, Filter>& value_filters() {
  static const std::map<std::string_view, Filter> table = {{"abs", absolute},
                                                           {"capitalize", capitalized},
                                                           {"count", length},
                                                           {"d", default_value},
                                                           {"default", default_value},
                                                           {"e", escape},
                                                           {"escape", escape},
                                                           {"float", real},
                                                           {"indent", indent},
                                                           {"int", integer},
                                                           {"length", length},
                                                           {"lower", lower},
                                                           {"replace", replace},
                                                           {"round", round_number},
                                                           {"safe", string},
                                                           {"string", string},
                                                           {"title", title},
                                                           {"tojson", tojson},
                                                           {"trim", trim},
                                                           {"upper", upper},
                                                           {"wordcount", wordcount}};
  return table;
}

}  // namespace

Value apply_filter(Interpreter& interpreter, std::string_view name, const Value& input,
                   const Arguments& arguments) {
  interpreter.charge(1);
  for (const auto* table : {&value_filters(), &sequence_filters()})
    if (const auto found = table->find(name); found != table->end())
      return found->second(interpreter, input, arguments);
  throw ValueError{fmt::format("the filter '{}' is unknown or not supported", name)};
}

}  // namespace indexshare::chat
