// SPDX-License-Identifier: Apache-2.0
// Statements, scopes and budgets.
#include <algorithm>

#include "base/check.h"
#include "text/template_interpreter.h"

namespace indexshare::chat {

using Kind = Value::Kind;

class Interpreter::Inner {
 public:
  explicit Inner(Interpreter& owner, Scope* parent) : owner_(owner), outer_(owner.scope_) {
    scope_.parent = parent;
    owner_.scope_ = &scope_;
  }
  explicit Inner(Interpreter& owner) : Inner(owner, owner.scope_) {}
  ~Inner() { owner_.scope_ = outer_; }

 private:
  Interpreter& owner_;
  Scope* outer_;
  Scope scope_;
};

const Value* Arguments::find(size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  for (const auto& [key, value] : named)
    if (key == name) return &value;
  return nullptr;
}

int64_t Arguments::integer(size_t index, std::string_view name, int64_t otherwise) const {
  const Value* value = find(index, name);
  if (!value || value->is(Kind::none)) return otherwise;
  if (!value->is_integral()) throw ValueError{fmt::format("'{}' must be an integer", name)};
  return value->as_integer();
}

bool Arguments::truth(size_t index, std::string_view name, bool otherwise) const {
  const Value* value = find(index, name);
  return value ? value->truth() : otherwise;
}

void Arguments::allow(std::string_view callee, std::initializer_list<std::string_view> names) const {
  if (positional.size() > names.size())
    throw ValueError{
        fmt::format("{} takes at most {} arguments, found {}", callee, names.size(), positional.size())};
  for (const auto& [key, value] : named)
    if (std::find(names.begin(), names.end(), key) == names.end())
      throw ValueError{fmt::format("{} has no argument '{}'", callee, key)};
}

Interpreter::Interpreter(const std::string& name, const Budgets& budgets) : name_(name), budgets_(budgets) {
  for (const char* function : {"range", "dict", "namespace", "raise_exception", "strftime_now"})
    root_.variables.emplace_back(function,
                                 Value::of(Callable{Callable::Kind::function, function, {}, nullptr}));
}

MarkedText Interpreter::render(const Block& body,
                               const std::vector<std::pair<std::string, Value>>& variables) {
  MarkedText result;
  out_ = &result;
  try {
    for (const auto& [name, value] : variables) set(name, value);
    run(body);
  } catch (const ValueError& error) {
    fail(ErrorCode::unsupported, "{}: line {}: {}", name_, line_, error.message);
  } catch (const Refusal& refusal) {
    fail(ErrorCode::invalid_argument, "{}: line {}: the chat template refuses these messages: {}", name_,
         line_, refusal.message);
  }
  return result;
}

void Interpreter::charge(size_t steps) {
  if (steps > static_cast<size_t>(budgets_.steps)) throw ValueError{"the template takes too many steps"};
  budgets_.steps -= static_cast<int64_t>(steps);
}

void Interpreter::check_length(size_t bytes) const {
  if (bytes > budgets_.text_bytes) throw ValueError{"the template makes too long a text"};
}

void Interpreter::charge_text(size_t bytes) {
  check_length(bytes);
  if (bytes > budgets_.total_bytes) throw ValueError{"the template makes too much text"};
  budgets_.total_bytes -= bytes;
}

Value Interpreter::make_text(MarkedText text) {
  charge_text(text.size());
  return Value::text(std::move(text));
}

MarkedText Interpreter::print(const Value& value) {
  if (!value.is(Kind::text)) charge(value.weight());
  MarkedText text = to_text(value);
  charge_text(text.size());
  return text;
}

void Interpreter::set(std::string_view name, Value value) {
  for (auto& [known, old] : scope_->variables)
    if (known == name) {
      old = std::move(value);
      return;
    }
  scope_->variables.emplace_back(name, std::move(value));
}

void Interpreter::output(const Value& value) {
  const MarkedText text = print(value);
  check_length(out_->size() + text.size());
  out_->append(text);
}

MarkedText Interpreter::capture(const Block& body) {
  MarkedText text;
  MarkedText* outer = std::exchange(out_, &text);
  run(body);
  out_ = outer;
  charge_text(text.size());
  return text;
}

void Interpreter::assign(const Target& target, Value value) {
  if (target.attribute.empty()) return set(target.name, std::move(value));
  const Value object = lookup(target.name);
  if (!object.is(Kind::name_space))
    throw ValueError{
        fmt::format("cannot set '{}.{}': only a namespace can be changed", target.name, target.attribute)};
  for (auto& [name, member] : object.name_space()->members)
    if (name == target.attribute) {
      member = std::move(value);
      return;
    }
  object.name_space()->members.emplace_back(target.attribute, std::move(value));
}

void Interpreter::assign(const Statement& statement, const Value& value) {
  if (!statement.unpack) return assign(statement.targets[0], value);
  const Values items = iterate(value);
  if (items.size() != statement.targets.size())
    throw ValueError{
        fmt::format("expected {} values to unpack, found {}", statement.targets.size(), items.size())};
  for (size_t i = 0; i < items.size(); ++i) assign(statement.targets[i], items[i]);
}

Interpreter::Flow Interpreter::run(const Block& body) {
  for (const auto& statement : body) {
    const Flow flow = run(*statement);
    if (flow != Flow::normal) return flow;
  }
  return Flow::normal;
}

Interpreter::Flow Interpreter::run(const Statement& s) {
  charge(1);
  line_ = s.line;
  if (++depth_ > budgets_.depth) throw ValueError{"nested too deeply"};
  Flow flow = Flow::normal;
  switch (s.kind) {
    case Statement::Kind::data:
      charge_text(s.text.size());
      check_length(out_->size() + s.text.size());
      out_->append(s.text);
      break;
    case Statement::Kind::output:
      output(evaluate(*s.expressions[0]));
      break;
    case Statement::Kind::branch:
      flow = run_branch(s);
      break;
    case Statement::Kind::loop:
      flow = run_loop(s);
      break;
    case Statement::Kind::set:
      assign(s, evaluate(*s.expressions[0]));
      break;
    case Statement::Kind::set_block: {
      Value text;
      {
        Inner inner(*this);
        text = Value::text(capture(s.blocks[0]));
      }
      assign(s, s.expressions[0] ? filter(*s.expressions[0], &text) : text);
      break;
    }
    case Statement::Kind::macro:
      set(s.macro->name, Value::of(Callable{Callable::Kind::macro, s.macro->name, {}, s.macro.get()}));
      break;
    case Statement::Kind::filter_block: {
      Inner inner(*this);
      const Value text = Value::text(capture(s.blocks[0]));
      output(filter(*s.expressions[0], &text));
      break;
    }
    case Statement::Kind::with:
      run_with(s);
      break;
    case Statement::Kind::scope: {
      Inner inner(*this);
      flow = run(s.blocks[0]);
      break;
    }
    case Statement::Kind::leave:
      flow = Flow::leave;
      break;
    case Statement::Kind::next:
      flow = Flow::next;
      break;
  }
  --depth_;
  return flow;
}

Interpreter::Flow Interpreter::run_branch(const Statement& s) {
  for (size_t i = 0; i < s.expressions.size(); ++i)
    if (evaluate(*s.expressions[i]).truth()) return run(s.blocks[i]);
  return s.blocks.size() > s.expressions.size() ? run(s.blocks.back()) : Flow::normal;
}

Interpreter::Flow Interpreter::run_loop(const Statement& s) {
  Values items = iterate(evaluate(*s.expressions[0]));
  if (s.expressions.size() > 1) {
    Values kept;
    for (const Value& item : items) {
      Inner inner(*this);
      assign(s, item);
      if (evaluate(*s.expressions[1]).truth()) kept.push_back(item);
    }
    items = std::move(kept);
  }
  if (items.empty()) {
    if (s.blocks.size() < 2) return Flow::normal;
    Inner inner(*this);
    return run(s.blocks[1]);
  }
  auto loop = std::make_shared<Loop>();
  loop->items = std::move(items);
  const Value handle = Value::of(loop);
  for (; loop->index < loop->items.size(); ++loop->index) {
    charge(1);
    Inner inner(*this);
    set("loop", handle);
    assign(s, loop->items[loop->index]);
    if (run(s.blocks[0]) == Flow::leave) break;
  }
  return Flow::normal;
}

void Interpreter::run_with(const Statement& s) {
  Values values;
  for (const ExpressionPtr& expression : s.expressions) values.push_back(evaluate(*expression));
  Inner inner(*this);
  for (size_t i = 0; i < values.size(); ++i) assign(s.targets[i], values[i]);
  run(s.blocks[0]);
}

Value Interpreter::call_macro(const Macro& macro, const Arguments& arguments) {
  if (arguments.positional.size() > macro.parameters.size())
    throw ValueError{fmt::format("macro '{}' takes at most {} arguments, found {}", macro.name,
                                 macro.parameters.size(), arguments.positional.size())};
  for (const auto& [name, value] : arguments.named)
    if (std::find(macro.parameters.begin(), macro.parameters.end(), name) == macro.parameters.end())
      throw ValueError{fmt::format("macro '{}' has no parameter '{}'", macro.name, name)};
  Inner inner(*this, &root_);
  const size_t num_required = macro.parameters.size() - macro.defaults.size();
  for (size_t i = 0; i < macro.parameters.size(); ++i) {
    const std::string& name = macro.parameters[i];
    if (const Value* given = arguments.find(i, name)) {
      set(name, *given);
    } else if (i >= num_required) {
      set(name, evaluate(*macro.defaults[i - num_required]));
    } else {
      set(name, Value::undefined(fmt::format("parameter '{}' was not provided", name)));
    }
  }
  return Value::text(capture(macro.body));
}

}  // namespace indexshare::chat
