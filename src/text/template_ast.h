// SPDX-License-Identifier: Apache-2.0
// A parsed template.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template_value.h"

namespace indexshare::chat {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
  enum class Kind {
    constant,     // value
    name,         // name
    list,         // children
    tuple,        // children
    dict,         // children: key, value, key, value...
    attribute,    // children[0].name
    item,         // children[0][children[1]]
    slice,        // children[0][children[1]:children[2]:children[3]], absent bounds are null
    call,         // children[0](children[1...], named...)
    filter,       // children[0] | name(children[1...], named...); children[0] null inside a filter block
    test,         // children[0] is name(children[1...]); negated: is not
    negate,       // -children[0], or + where name is "+"
    logical_not,  // children[0]
    logical_and,  // children[0] and children[1]
    logical_or,
    arithmetic,  // children[0] name children[1]
    comparison,  // children[0] names[0] children[1] names[1] children[2]...
    conditional  // children[1] if children[0] else children[2], which may be null
  } kind;
  int line = 0;
  int depth = 1;  // of the tree below, this node included
  std::string name = {};
  bool negated = false;
  Value value = {};
  std::vector<ExpressionPtr> children = {};
  std::vector<std::pair<std::string, ExpressionPtr>> named = {};
  std::vector<std::string> names = {};
};

struct Statement;
using Block = std::vector<std::unique_ptr<Statement>>;

/// What is assigned to: a name, or an attribute of a namespace.
struct Target {
  std::string name;
  std::string attribute = {};
};

struct Macro {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<ExpressionPtr> defaults;  // of the last parameters
  Block body;
};

struct Statement {
  enum class Kind {
    data,          // text
    output,        // expressions[0]
    branch,        // if/elif/else: blocks[i] where expressions[i] holds; one block more for else
    loop,          // for targets in expressions[0] [if expressions[1]]: blocks[0] else blocks[1]
    set,           // targets = expressions[0]
    set_block,     // targets[0] = what blocks[0] prints, through the filter expressions[0] if not null
    macro,         // macro
    filter_block,  // what blocks[0] prints, through the filter expressions[0]
    with,          // targets[i] = expressions[i] inside blocks[0]
    scope,         // blocks[0] with variables of its own
    leave,         // break
    next           // continue
  } kind;
  int line = 0;
  std::string text = {};
  std::vector<ExpressionPtr> expressions = {};
  std::vector<Target> targets = {};
  bool unpack = false;  // assign to targets one by one: "a, b" rather than "a"
  std::vector<Block> blocks = {};
  std::unique_ptr<Macro> macro = {};
};

/// Throws Error{unsupported} that begins with `name` and the line.
Block parse_template(std::string_view source, const std::string& name);

}  // namespace indexshare::chat
