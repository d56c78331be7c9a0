// SPDX-License-Identifier: Apache-2.0
// A cursor over tokens and, on top of it, the grammar of Jinja's expressions.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "text/template_ast.h"
#include "text/template_lexer.h"

namespace indexshare::chat {

class ExpressionParser {
 public:
  ExpressionParser(std::vector<Token> tokens, const std::string& name)
      : tokens_(std::move(tokens)), name_(name) {}

 protected:
  [[noreturn]] void refuse(const std::string& message) const;
  [[noreturn]] void unexpected(std::string_view expected) const;

  const Token& token() const { return tokens_[at_]; }
  const Token& token_after() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool at(Token::Kind kind, std::string_view text) const {
    return token().kind == kind && token().text == text;
  }
  bool at_op(std::string_view op) const { return at(Token::Kind::op, op); }
  bool at_word(std::string_view word) const { return at(Token::Kind::name, word); }
  bool skip_op(std::string_view op) { return at_op(op) && (take(), true); }
  bool skip_word(std::string_view word) { return at_word(word) && (take(), true); }
  void expect_op(std::string_view op);
  std::string expect_name();

  ExpressionPtr expression();  // a conditional expression
  /// "a" or "a, b": the second a tuple. Stops at what cannot begin an expression.
  ExpressionPtr expression_or_tuple(bool conditional = true);
  /// A filter without an input: name(arguments) | name...
  ExpressionPtr filters_of(ExpressionPtr input);
  ExpressionPtr first_filter(ExpressionPtr input);

  ExpressionPtr make(Expression::Kind kind, int line, std::string name = "");
  void adopt(Expression& parent, ExpressionPtr child) const;

  // Guards against deep recursion of the parser itself.
  struct Level {
    explicit Level(ExpressionParser& parser);
    ~Level() { --parser_.level_; }
    ExpressionParser& parser_;
  };

 private:
  ExpressionPtr logical_or();
  ExpressionPtr logical_and();
  ExpressionPtr logical_not();
  ExpressionPtr comparison();
  ExpressionPtr sum();
  ExpressionPtr concatenation();
  ExpressionPtr product();
  ExpressionPtr power();
  ExpressionPtr unary(bool with_filter);
  ExpressionPtr primary();
  ExpressionPtr parenthesized();
  ExpressionPtr list();
  ExpressionPtr dict();
  ExpressionPtr postfix(ExpressionPtr node);
  ExpressionPtr subscript(ExpressionPtr node);
  ExpressionPtr call(ExpressionPtr callee);
  ExpressionPtr test(ExpressionPtr input);
  ExpressionPtr binary(Expression::Kind kind, ExpressionPtr left, std::string op, ExpressionPtr right);
  void arguments(Expression& call);
  bool begins_expression() const;

  std::vector<Token> tokens_;
  const std::string& name_;
  size_t at_ = 0;
  int level_ = 0;
};

}  // namespace indexshare::chat
