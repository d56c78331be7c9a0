// SPDX-License-Identifier: Apache-2.0
// Jinja's statements.
#include "text/template_parser.h"

#include "base/check.h"

namespace indexshare::chat {

namespace {

using Kind = Statement::Kind;
using Words = std::initializer_list<std::string_view>;

class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Block run() {
    Block body = block({});
    if (token().kind != Token::Kind::end) unexpected("the end of the template");
    return body;
  }

 private:
  // Statements up to {% word %} with one of `ends`, whose "{%" is taken and whose word is the next token;
  // with no `ends`, up to the end of the template.
  Block block(Words ends) {
    const Level level(*this);
    Block body;
    while (true) {
      switch (token().kind) {
        case Token::Kind::data: {
          auto statement = make_statement(Kind::data);
          statement->text = take().text;
          body.push_back(std::move(statement));
          break;
        }
        case Token::Kind::output_begin: {
          take();
          auto statement = make_statement(Kind::output);
          statement->expressions.push_back(expression_or_tuple());
          if (token().kind != Token::Kind::output_end) unexpected("'}}'");
          take();
          body.push_back(std::move(statement));
          break;
        }
        case Token::Kind::block_begin: {
          take();
          for (std::string_view end : ends)
            if (at_word(end)) return body;
          body.push_back(statement());
          break;
        }
        default:
          if (ends.size() == 0) return body;
          unexpected(fmt::format("'{{% {} %}}'", *(ends.end() - 1)));
      }
    }
  }

  std::unique_ptr<Statement> make_statement(Kind kind) const {
    auto statement = std::make_unique<Statement>(Statement{kind});
    statement->line = token().line;
    return statement;
  }

  void end_block() {
    if (token().kind != Token::Kind::block_end) unexpected("'%}'");
    take();
  }

  // The body up to {% endword %}, which is taken.
  Block body_until(std::string_view end) {
    end_block();
    Block body = block({end});
    take();
    return body;
  }

  std::unique_ptr<Statement> statement() {
    if (at_word("if")) return branch();
    if (at_word("for")) return loop();
    if (at_word("set")) return set();
    if (at_word("macro")) return macro();
    if (at_word("filter")) return filter_block();
    if (at_word("with")) return with();
    if (at_word("generation")) {
      auto statement = make_statement(Kind::scope);
      take();
      statement->blocks.push_back(body_until("endgeneration"));
      end_block();
      return statement;
    }
    if (at_word("break") || at_word("continue")) {
      auto statement = make_statement(at_word("break") ? Kind::leave : Kind::next);
      if (num_loops_ == 0) refuse(fmt::format("'{}' outside of a loop", token().text));
      take();
      end_block();
      return statement;
    }
    if (token().kind == Token::Kind::name)
      refuse(fmt::format("the tag '{}' is unknown or not supported", token().text.substr(0, 40)));
    unexpected("the name of a tag");
  }

  std::unique_ptr<Statement> branch() {
    auto statement = make_statement(Kind::branch);
    bool closed = false;
    while (!closed) {
      take();  // if, elif
      statement->expressions.push_back(expression_or_tuple(false));
      end_block();
      statement->blocks.push_back(block({"elif", "else", "endif"}));
      if (at_word("elif")) continue;
      if (skip_word("else")) {
        end_block();
        statement->blocks.push_back(block({"endif"}));
      }
      closed = true;
    }
    take();
    end_block();
    return statement;
  }

  // "a" or "a, b", where each may be the attribute of a namespace if that is allowed.
  void targets(Statement& statement, bool attributes) {
    const bool bracketed = skip_op("(");
    do {
      if (!statement.targets.empty()) statement.unpack = true;
      if (statement.unpack && token().kind != Token::Kind::name) break;  // "a," is a tuple of one
      Target target{expect_name()};
      if (attributes && skip_op(".")) target.attribute = expect_name();
      for (std::string_view constant : {"true", "false", "none", "True", "False", "None"})
        if (target.name == constant) refuse(fmt::format("cannot assign to '{}'", constant));
      statement.targets.push_back(std::move(target));
    } while (skip_op(","));
    if (bracketed) expect_op(")");
  }

  std::unique_ptr<Statement> loop() {
    auto statement = make_statement(Kind::loop);
    take();
    targets(*statement, false);
    if (!skip_word("in")) unexpected("'in'");
    statement->expressions.push_back(expression_or_tuple(false));
    if (skip_word("if")) statement->expressions.push_back(expression());
    if (at_word("recursive")) refuse("recursive loops are not supported");
    end_block();
    ++num_loops_;
    statement->blocks.push_back(block({"else", "endfor"}));
    --num_loops_;
    if (skip_word("else")) {
      end_block();
      statement->blocks.push_back(block({"endfor"}));
    }
    take();
    end_block();
    return statement;
  }

  std::unique_ptr<Statement> set() {
    auto statement = make_statement(Kind::set);
    take();
    targets(*statement, true);
    if (skip_op("=")) {
      statement->expressions.push_back(expression_or_tuple());
      end_block();
      return statement;
    }
    if (statement->targets.size() != 1) unexpected("'='");
    statement->kind = Kind::set_block;
    ExpressionPtr filter;
    if (skip_op("|")) filter = filters_of(first_filter(nullptr));
    statement->expressions.push_back(std::move(filter));
    statement->blocks.push_back(captured_body("endset"));
    end_block();
    return statement;
  }

  // A body that is printed elsewhere: no loop around it can be left from inside.
  Block captured_body(std::string_view end) {
    const int outer = std::exchange(num_loops_, 0);
    Block body = body_until(end);
    num_loops_ = outer;
    return body;
  }

  std::unique_ptr<Statement> macro() {
    auto statement = make_statement(Kind::macro);
    take();
    auto macro = std::make_unique<Macro>();
    macro->name = expect_name();
    expect_op("(");
    while (!skip_op(")")) {
      if (!macro->parameters.empty()) {
        expect_op(",");
        if (skip_op(")")) break;
      }
      macro->parameters.push_back(expect_name());
      if (skip_op("=")) {
        macro->defaults.push_back(expression());
      } else if (!macro->defaults.empty()) {
        refuse("a parameter without default behind one with");
      }
    }
    macro->body = captured_body("endmacro");
    end_block();
    statement->macro = std::move(macro);
    return statement;
  }

  std::unique_ptr<Statement> filter_block() {
    auto statement = make_statement(Kind::filter_block);
    take();
    statement->expressions.push_back(filters_of(first_filter(nullptr)));
    statement->blocks.push_back(captured_body("endfilter"));
    end_block();
    return statement;
  }

  std::unique_ptr<Statement> with() {
    auto statement = make_statement(Kind::with);
    take();
    while (token().kind != Token::Kind::block_end) {
      if (!statement->targets.empty()) expect_op(",");
      statement->targets.push_back({expect_name()});
      expect_op("=");
      statement->expressions.push_back(expression());
    }
    statement->blocks.push_back(body_until("endwith"));
    end_block();
    return statement;
  }

  int num_loops_ = 0;
};

}  // namespace

Block parse_template(std::string_view source, const std::string& name) {
  return Parser(lex_template(source, name), name).run();
}

}  // namespace indexshare::chat
