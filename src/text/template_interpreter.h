// SPDX-License-Identifier: Apache-2.0
// Runs a parsed template within fixed budgets. What templates may call is all here and in
// template_filters.cpp, template_tests.cpp and template_methods.cpp; nothing reaches outside of the values
// given.
#pragma once

#include <algorithm>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "text/template_ast.h"

namespace indexshare::chat {

struct Budgets {
  int64_t steps = 3'000'000;               // nodes evaluated and items visited
  size_t text_bytes = size_t{32} << 20;    // the longest text
  size_t total_bytes = size_t{256} << 20;  // of all texts ever made
  int depth = 300;                         // statements, expressions and macros inside each other
};

/// raise_exception in a template: what the model's authors do not allow.
struct Refusal {
  std::string message;
};

struct Arguments {
  Values positional;
  std::vector<std::pair<std::string, Value>> named;

  /// By position or by name, nullptr where not given.
  const Value* find(size_t index, std::string_view name) const;
  int64_t integer(size_t index, std::string_view name, int64_t otherwise) const;
  bool truth(size_t index, std::string_view name, bool otherwise) const;
  /// Throws ValueError where something else than the first `names.size()` parameters was given.
  void allow(std::string_view callee, std::initializer_list<std::string_view> names) const;
};

class Interpreter {
 public:
  /// `name` stands for the template in messages.
  Interpreter(const std::string& name, const Budgets& budgets);

  /// Throws Error{unsupported} where the template is at fault and Error{invalid_argument} where it refuses.
  MarkedText render(const Block& body, const std::vector<std::pair<std::string, Value>>& variables);

  // For filters, tests and methods.
  void charge(size_t steps);
  void charge_text(size_t bytes);
  /// For reading a text once, from end to end.
  void charge_scan(const MarkedText& text) { charge(text.size() / 64 + 1); }
  /// For comparing two values.
  void charge_comparison(const Value& a, const Value& b) { charge(std::min(a.weight(), b.weight())); }
  void check_length(size_t bytes) const;
  Value make_text(MarkedText text);
  Value attribute(const Value& object, std::string_view name);
  Value item(const Value& object, const Value& key);
  Values iterate(const Value& value);
  MarkedText print(const Value& value);

 private:
  struct Scope {
    Scope* parent = nullptr;
    std::vector<std::pair<std::string, Value>> variables = {};
  };
  class Inner;  // a scope inside the current one, for a C++ block
  enum class Flow { normal, leave, next };

  Flow run(const Block& body);
  Flow run(const Statement& statement);
  Flow run_branch(const Statement& statement);
  Flow run_loop(const Statement& statement);
  void run_with(const Statement& statement);
  MarkedText capture(const Block& body);
  void assign(const Statement& statement, const Value& value);
  void assign(const Target& target, Value value);
  void set(std::string_view name, Value value);
  void output(const Value& value);

  Value evaluate(const Expression& e);
  Value evaluate_node(const Expression& e);
  Value lookup(const std::string& name) const;
  Value arithmetic(const Expression& e);
  Value comparison(const Expression& e);
  /// `text` is what the chain of a filter block begins with, nullptr outside of one.
  Value filter(const Expression& e, const Value* text);
  Value test(const Expression& e);
  Value slice(const Expression& e);
  Value container(const Expression& e);
  Value call(const Expression& e);
  Value call_function(const std::string& name, const Arguments& arguments);
  Value call_macro(const Macro& macro, const Arguments& arguments);
  Value call_method(const Value& self, std::string_view name, const Arguments& arguments);
  Value make_namespace(const Arguments& arguments);
  Arguments arguments_of(const Expression& e);

  const std::string& name_;
  Budgets budgets_;
  Scope root_;
  Scope* scope_ = &root_;
  std::deque<Namespace> namespaces_;
  MarkedText* out_ = nullptr;
  int line_ = 1;
  int depth_ = 0;
};

/// Throws ValueError, for an unknown filter too.
Value apply_filter(Interpreter& interpreter, std::string_view name, const Value& input,
                   const Arguments& arguments);
bool apply_test(Interpreter& interpreter, std::string_view name, const Value& input,
                const Arguments& arguments);
Value call_text_method(Interpreter& interpreter, const MarkedText& self, std::string_view name,
                       const Arguments& arguments);
bool is_text_method(std::string_view name);
Value slice_of(Interpreter& interpreter, const Value& object, const Value& start, const Value& stop,
               const Value& step);
Value calculate(Interpreter& interpreter, std::string_view op, const Value& left, const Value& right);
bool contains(Interpreter& interpreter, const Value& container, const Value& value);
[[noreturn]] void refuse_undefined(const Value& value);

}  // namespace indexshare::chat
