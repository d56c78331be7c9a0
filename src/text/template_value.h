// SPDX-License-Identifier: Apache-2.0
// The values a template computes with: Python's, as far as chat templates see them. Immutable and cheap to
// copy.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "text/marked_text.h"

namespace indexshare::chat {

struct Macro;
struct Namespace;
struct Loop;
struct Callable;
class Value;

using Values = std::vector<Value>;
using Members = std::vector<std::pair<Value, Value>>;

class Value {
 public:
  enum class Kind {
    undefined,  // text: what was looked for
    none,
    boolean,
    integer,
    real,
    text,
    list,
    tuple,
    generator,  // what map, select and their like give: true even if empty, without a length
    dict,
    name_space,
    loop,
    callable
  };

  Value() = default;  // undefined
  static Value undefined(std::string hint);
  static Value none();
  static Value boolean(bool value);
  static Value integer(int64_t value);
  static Value real(double value);
  static Value text(MarkedText value);
  static Value text(std::string_view value) { return text(MarkedText(value)); }
  static Value sequence(Kind kind, Values items);  // list, tuple or generator
  static Value dict(Members members);
  static Value of(Namespace* space);
  static Value of(std::shared_ptr<Loop> loop);
  static Value of(Callable callable);
  /// Strings and keys count as from outside where `outside` is set.
  static Value from_json(const Json& json, bool outside);

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_number() const { return is(Kind::boolean) || is(Kind::integer) || is(Kind::real); }
  bool is_integral() const { return is(Kind::boolean) || is(Kind::integer); }
  bool is_sequence() const { return is(Kind::list) || is(Kind::tuple) || is(Kind::generator); }

  // Each requires the kind it names.
  bool as_bool() const { return integer_ != 0; }
  int64_t as_integer() const { return integer_; }
  double as_real() const { return is(Kind::real) ? real_ : static_cast<double>(integer_); }
  const MarkedText& as_text() const;
  const Values& items() const;
  const Members& members() const;
  Namespace* name_space() const { return static_cast<Namespace*>(pointer_.get()); }
  Loop* loop() const { return static_cast<Loop*>(pointer_.get()); }
  const Callable& callable() const;

  /// Containers inside containers; bounded so that no recursion over a value runs out of stack.
  int depth() const { return depth_; }
  /// Values inside, plus one for every 16 bytes of text: what visiting all of it costs. A list that holds
  /// another twice weighs it twice.
  size_t weight() const { return weight_; }
  bool truth() const;
  bool equals(const Value& other) const;
  /// The member of a dict, nullptr where there is none.
  const Value* find(std::string_view key) const;
  const Value* find(const Value& key) const;
  std::string_view type_name() const;  // as Python calls it: "str", "dict"

 private:
  Kind kind_ = Kind::undefined;
  int depth_ = 0;
  size_t weight_ = 1;
  void contain(const Value& inner);
  union {
    int64_t integer_ = 0;
    double real_;
  };
  std::shared_ptr<void> pointer_;
};

struct Namespace {
  std::vector<std::pair<std::string, Value>> members;
};

struct Loop {
  Values items;
  size_t index = 0;
  std::vector<Value> changed;  // the arguments of the last loop.changed
};

struct Callable {
  enum class Kind { function, method, macro } kind;
  std::string name;  // of the function or method
  Value self;        // of a method
  const Macro* macro = nullptr;
};

/// Thrown by operations on values; the interpreter adds the template's name and the line.
struct ValueError {
  std::string message;
};

inline constexpr int kMaxValueDepth = 80;

/// What {{ value }} prints.
MarkedText to_text(const Value& value);
/// Python's repr.
MarkedText to_repr(const Value& value);
std::string real_to_text(double value);

struct JsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  bool pretty = false;  // one member a line
  std::string indent;   // of one level, where pretty
  std::string item_separator = ", ", key_separator = ": ";
};
/// Python's json.dumps.
MarkedText to_json(const Value& value, const JsonStyle& style);

/// -1, 0 or 1. Throws ValueError where Python cannot order the two.
int compare(const Value& a, const Value& b);

}  // namespace indexshare::chat
