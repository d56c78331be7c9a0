// SPDX-License-Identifier: Apache-2.0
// Jinja's expressions, loosest binding first.
#include <charconv>

#include "base/check.h"
#include "text/template_parser.h"

namespace indexshare::chat {

using Kind = Expression::Kind;

namespace {

constexpr int kMaxDepth = 100;  // of an expression tree, and of the parser's own recursion

}  // namespace

ExpressionParser::Level::Level(ExpressionParser& parser) : parser_(parser) {
  if (++parser_.level_ > kMaxDepth) {
    --parser_.level_;
    parser_.refuse(fmt::format("nested more than {} deep", kMaxDepth));
  }
}

void ExpressionParser::refuse(const std::string& message) const {
  fail(ErrorCode::unsupported, "{}: line {}: {}", name_, token().line, message);
}

void ExpressionParser::unexpected(std::string_view expected) const {
  const Token& found = token();
  std::string shown;
  switch (found.kind) {
    case Token::Kind::end:
      shown = "the end of the template";
      break;
    case Token::Kind::block_end:
      shown = "'%}'";
      break;
    case Token::Kind::output_end:
      shown = "'}}'";
      break;
    default:
      shown = "'" + found.text.substr(0, 40) + "'";
  }
  refuse(fmt::format("expected {}, found {}", expected, shown));
}

void ExpressionParser::expect_op(std::string_view op) {
  if (!skip_op(op)) unexpected(fmt::format("'{}'", op));
}

std::string ExpressionParser::expect_name() {
  if (token().kind != Token::Kind::name) unexpected("a name");
  return take().text;
}

ExpressionPtr ExpressionParser::make(Kind kind, int line, std::string name) {
  auto node = std::make_unique<Expression>(Expression{kind});
  node->line = line;
  node->name = std::move(name);
  return node;
}

void ExpressionParser::adopt(Expression& parent, ExpressionPtr child) const {
  if (child) parent.depth = std::max(parent.depth, child->depth + 1);
  parent.children.push_back(std::move(child));
  if (parent.depth > kMaxDepth) refuse(fmt::format("an expression nested more than {} deep", kMaxDepth));
}

ExpressionPtr ExpressionParser::binary(Kind kind, ExpressionPtr left, std::string op, ExpressionPtr right) {
  auto node = make(kind, left->line, std::move(op));
  adopt(*node, std::move(left));
  adopt(*node, std::move(right));
  return node;
}

ExpressionPtr ExpressionParser::expression() {
  const Level level(*this);
  ExpressionPtr value = logical_or();
  while (at_word("if")) {
    auto node = make(Kind::conditional, take().line);
    adopt(*node, logical_or());
    adopt(*node, std::move(value));
    adopt(*node, skip_word("else") ? expression() : nullptr);
    value = std::move(node);
  }
  return value;
}

bool ExpressionParser::begins_expression() const {
  switch (token().kind) {
    case Token::Kind::name:
      return !at_word("if") && !at_word("else") && !at_word("in") && !at_word("recursive");
    case Token::Kind::string:
    case Token::Kind::integer:
    case Token::Kind::real:
      return true;
    case Token::Kind::op:
      return at_op("(") || at_op("[") || at_op("{") || at_op("-") || at_op("+");
    default:
      return false;
  }
}

ExpressionPtr ExpressionParser::expression_or_tuple(bool conditional) {
  const auto one = [&] { return conditional ? expression() : logical_or(); };
  ExpressionPtr first = one();
  if (!at_op(",")) return first;
  auto tuple = make(Kind::tuple, first->line);
  adopt(*tuple, std::move(first));
  while (skip_op(",") && begins_expression()) adopt(*tuple, one());
  return tuple;
}

ExpressionPtr ExpressionParser::logical_or() {
  const Level level(*this);
  ExpressionPtr left = logical_and();
  while (skip_word("or")) left = binary(Kind::logical_or, std::move(left), "", logical_and());
  return left;
}

ExpressionPtr ExpressionParser::logical_and() {
  ExpressionPtr left = logical_not();
  while (skip_word("and")) left = binary(Kind::logical_and, std::move(left), "", logical_not());
  return left;
}

ExpressionPtr ExpressionParser::logical_not() {
  if (!at_word("not")) return comparison();
  const Level level(*this);
  auto node = make(Kind::logical_not, take().line);
  adopt(*node, logical_not());
  return node;
}

ExpressionPtr ExpressionParser::comparison() {
  ExpressionPtr first = sum();
  auto node = make(Kind::comparison, first->line);
  while (true) {
    std::string op;
    if (token().kind == Token::Kind::op) {
      for (std::string_view known : {"==", "!=", "<", "<=", ">", ">="})
        if (at_op(known)) op = known;
    } else if (at_word("in")) {
      op = "in";
    } else if (at_word("not") && token_after().kind == Token::Kind::name && token_after().text == "in") {
      take();
      op = "not in";
    }
    if (op.empty()) break;
    take();
    if (node->children.empty()) adopt(*node, std::move(first));
    node->names.push_back(op);
    adopt(*node, sum());
  }
  return node->children.empty() ? std::move(first) : std::move(node);
}

ExpressionPtr ExpressionParser::sum() {
  ExpressionPtr left = concatenation();
  while (at_op("+") || at_op("-")) {
    std::string op = take().text;
    left = binary(Kind::arithmetic, std::move(left), std::move(op), concatenation());
  }
  return left;
}

ExpressionPtr ExpressionParser::concatenation() {
  ExpressionPtr left = product();
  while (skip_op("~")) left = binary(Kind::arithmetic, std::move(left), "~", product());
  return left;
}

ExpressionPtr ExpressionParser::product() {
  ExpressionPtr left = power();
  while (at_op("*") || at_op("/") || at_op("//") || at_op("%")) {
    std::string op = take().text;
    left = binary(Kind::arithmetic, std::move(left), std::move(op), power());
  }
  return left;
}

ExpressionPtr ExpressionParser::power() {
  ExpressionPtr left = unary(true);
  while (skip_op("**")) left = binary(Kind::arithmetic, std::move(left), "**", unary(true));
  return left;
}

ExpressionPtr ExpressionParser::unary(bool with_filter) {
  const Level level(*this);
  ExpressionPtr node;
  if (at_op("-") || at_op("+")) {
    const Token sign = take();
    node = make(Kind::negate, sign.line, sign.text);
    adopt(*node, unary(false));
  } else {
    node = primary();
  }
  node = postfix(std::move(node));
  return with_filter ? filters_of(std::move(node)) : std::move(node);
}

ExpressionPtr ExpressionParser::primary() {
  const int line = token().line;
  auto constant = [&](Value value) {
    auto node = make(Kind::constant, line);
    node->value = std::move(value);
    return node;
  };
  switch (token().kind) {
    case Token::Kind::name: {
      const std::string word = take().text;
      if (word == "true" || word == "True") return constant(Value::boolean(true));
      if (word == "false" || word == "False") return constant(Value::boolean(false));
      if (word == "none" || word == "None") return constant(Value::none());
      return make(Kind::name, line, word);
    }
    case Token::Kind::string: {
      std::string text = take().text;
      while (token().kind == Token::Kind::string) text += take().text;
      return constant(Value::text(text));
    }
    case Token::Kind::integer: {
      int64_t value = 0;
      const std::string& text = token().text;
      if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc())
        refuse("an integer beyond 64 bits");
      take();
      return constant(Value::integer(value));
    }
    case Token::Kind::real: {
      double value = 0;
      const std::string& text = token().text;
      if (std::from_chars(text.data(), text.data() + text.size(), value).ec != std::errc())
        refuse("a number out of range");
      take();
      return constant(Value::real(value));
    }
    default:
      break;
  }
  if (at_op("(")) return parenthesized();
  if (at_op("[")) return list();
  if (at_op("{")) return dict();
  unexpected("an expression");
}

ExpressionPtr ExpressionParser::parenthesized() {
  const int line = take().line;
  if (skip_op(")")) return make(Kind::tuple, line);
  ExpressionPtr inside = expression_or_tuple();
  expect_op(")");
  return inside;
}

ExpressionPtr ExpressionParser::list() {
  auto node = make(Kind::list, take().line);
  while (!skip_op("]")) {
    if (!node->children.empty()) {
      expect_op(",");
      if (skip_op("]")) break;
    }
    adopt(*node, expression());
  }
  return node;
}

ExpressionPtr ExpressionParser::dict() {
  auto node = make(Kind::dict, take().line);
  while (!skip_op("}")) {
    if (!node->children.empty()) {
      expect_op(",");
      if (skip_op("}")) break;
    }
    adopt(*node, expression());
    expect_op(":");
    adopt(*node, expression());
  }
  return node;
}

ExpressionPtr ExpressionParser::postfix(ExpressionPtr node) {
  while (true) {
    if (at_op(".") || at_op("[")) {
      node = subscript(std::move(node));
    } else if (at_op("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::subscript(ExpressionPtr object) {
  const int line = token().line;
  if (take().text == ".") {
    if (token().kind == Token::Kind::integer) {
      auto node = make(Kind::item, line);
      adopt(*node, std::move(object));
      adopt(*node, primary());
      return node;
    }
    auto node = make(Kind::attribute, line, expect_name());
    adopt(*node, std::move(object));
    return node;
  }
  ExpressionPtr start;
  if (!at_op(":")) start = expression_or_tuple();
  if (!at_op(":")) {
    expect_op("]");
    auto node = make(Kind::item, line);
    adopt(*node, std::move(object));
    adopt(*node, std::move(start));
    return node;
  }
  auto node = make(Kind::slice, line);
  adopt(*node, std::move(object));
  adopt(*node, std::move(start));
  for (int i = 0; i < 2; ++i) {
    const bool colon = skip_op(":");
    adopt(*node, colon && !at_op(":") && !at_op("]") ? expression() : nullptr);
  }
  expect_op("]");
  return node;
}

void ExpressionParser::arguments(Expression& parent) {
  expect_op("(");
  bool first = true;
  while (!skip_op(")")) {
    if (!first) {
      expect_op(",");
      if (skip_op(")")) return;
    }
    first = false;
    if (at_op("*") || at_op("**")) refuse("* and ** arguments are not supported");
    if (token().kind == Token::Kind::name && token_after().kind == Token::Kind::op &&
        token_after().text == "=") {
      std::string name = take().text;
      take();
      ExpressionPtr value = expression();
      parent.depth = std::max(parent.depth, value->depth + 1);
      parent.named.emplace_back(std::move(name), std::move(value));
    } else {
      if (!parent.named.empty()) refuse("a positional argument behind a named one");
      adopt(parent, expression());
    }
  }
}

ExpressionPtr ExpressionParser::call(ExpressionPtr callee) {
  auto node = make(Kind::call, callee->line);
  adopt(*node, std::move(callee));
  arguments(*node);
  return node;
}

ExpressionPtr ExpressionParser::first_filter(ExpressionPtr input) {
  auto node = make(Kind::filter, token().line, expect_name());
  adopt(*node, std::move(input));
  if (at_op("(")) arguments(*node);
  return node;
}

ExpressionPtr ExpressionParser::filters_of(ExpressionPtr node) {
  while (true) {
    if (skip_op("|")) {
      node = first_filter(std::move(node));
    } else if (at_word("is")) {
      node = test(std::move(node));
    } else if (at_op("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::test(ExpressionPtr input) {
  const int line = take().line;
  const bool negated = skip_word("not");
  auto node = make(Kind::test, line, expect_name());
  node->negated = negated;
  adopt(*node, std::move(input));
  if (at_op("(")) {
    arguments(*node);
  } else if (begins_expression() && !at_op("-") && !at_op("+") && !at_word("or") && !at_word("and") &&
             !at_word("not")) {
    if (at_word("is")) refuse("tests cannot be chained with 'is'");
    adopt(*node, postfix(primary()));
  }
  return node;
}

}  // namespace indexshare::chat
