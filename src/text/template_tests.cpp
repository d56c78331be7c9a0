// SPDX-License-Identifier: Apache-2.0
// Jinja's tests: what may follow "is".
#include <algorithm>

#include "base/check.h"
#include "text/letter_case.h"
#include "text/template_interpreter.h"

namespace indexshare::chat {

using Kind = Value::Kind;

namespace {

const Value& other(const Arguments& arguments, std::string_view name) {
  if (arguments.positional.size() != 1) throw ValueError{fmt::format("the test '{}' needs one value", name)};
  return arguments.positional[0];
}

// The comparisons, under all their names; -1 where `name` is none.
int compared(Interpreter& interpreter, std::string_view name, const Value& in, const Arguments& arguments) {
  const auto is = [&](std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (arguments.positional.size() == 1) interpreter.charge_comparison(in, arguments.positional[0]);
  if (is({"eq", "==", "equalto"})) return in.equals(other(arguments, name));
  if (is({"ne", "!="})) return !in.equals(other(arguments, name));
  if (is({"lt", "<", "lessthan"})) return compare(in, other(arguments, name)) < 0;
  if (is({"le", "<="})) return compare(in, other(arguments, name)) <= 0;
  if (is({"gt", ">", "greaterthan"})) return compare(in, other(arguments, name)) > 0;
  if (is({"ge", ">="})) return compare(in, other(arguments, name)) >= 0;
  if (is({"in"})) return contains(interpreter, other(arguments, name), in);
  if (is({"sameas"})) return in.kind() == other(arguments, name).kind() && in.equals(other(arguments, name));
  return -1;
}

bool divides(const Value& in, const Value& divisor) {
  if (!in.is_integral() || !divisor.is_integral()) throw ValueError{"divisibleby takes integers"};
  if (divisor.as_integer() == 0) throw ValueError{"division by zero"};
  return divisor.as_integer() == -1 || in.as_integer() % divisor.as_integer() == 0;
}

}  // namespace

bool apply_test(Interpreter& interpreter, std::string_view name, const Value& in,
                const Arguments& arguments) {
  interpreter.charge(1);
  if (name == "defined") return !in.is(Kind::undefined);
  if (name == "undefined") return in.is(Kind::undefined);
  if (name == "none") return in.is(Kind::none);
  if (name == "string") return in.is(Kind::text);
  if (name == "mapping") return in.is(Kind::dict);
  if (name == "number") return in.is_number();
  if (name == "integer") return in.is(Kind::integer);
  if (name == "float") return in.is(Kind::real);
  if (name == "boolean") return in.is(Kind::boolean);
  if (name == "true") return in.is(Kind::boolean) && in.as_bool();
  if (name == "false") return in.is(Kind::boolean) && !in.as_bool();
  if (name == "iterable")
    return in.is_sequence() || in.is(Kind::text) || in.is(Kind::dict) || in.is(Kind::undefined) ||
           in.is(Kind::loop);
  if (name == "sequence")
    return in.is(Kind::list) || in.is(Kind::tuple) || in.is(Kind::text) || in.is(Kind::dict) ||
           in.is(Kind::undefined);
  if (name == "callable") return in.is(Kind::callable);
  if (name == "divisibleby") return divides(in, other(arguments, name));
  if (name == "even" || name == "odd") return divides(in, Value::integer(2)) == (name == "even");
  if (name == "lower" || name == "upper") {
    const MarkedText text = interpreter.print(in);
    const bool lower = name == "lower";
    bool cased = false;
    for (char c : text.text)
      cased |= is_letter(static_cast<unsigned char>(c)) || static_cast<unsigned char>(c) >= 0x80;
    return cased && change_case(text, lower ? LetterCase::lower : LetterCase::upper).text == text.text;
  }
  const int result = compared(interpreter, name, in, arguments);
  if (result < 0) throw ValueError{fmt::format("the test '{}' is unknown or not supported", name)};
  return result != 0;
}

}  // namespace indexshare::chat
