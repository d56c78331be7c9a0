// SPDX-License-Identifier: Apache-2.0
#include "text/pre_tokenizer.h"

#include <algorithm>

#include "base/check.h"

namespace indexshare {

namespace {

constexpr size_t kMaxStages = 32;
// What ByteLevel with use_regex splits by: GPT-2's pattern.
constexpr std::string_view kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

}  // namespace

PreTokenizer::PreTokenizer(const Json& description, const std::string& what) {
  if (!description.is_null()) add(JsonObject(description, what, "pre_tokenizer"));
  if (!has_byte_level_)
    fail(ErrorCode::unsupported, "{}: pre_tokenizer: expected a ByteLevel pre-tokenizer, found none", what);
}

void PreTokenizer::add(const JsonObject& object) {
  const std::string type = object.required_string("type");
  if (type == "Sequence") {
    size_t index = 0;
    for (const Json& child : object.required_array("pretokenizers"))
      add(JsonObject(child, object.what(), fmt::format("{}[{}]", object.path_of("pretokenizers"), index++)));
    return;
  }
  if (has_byte_level_)
    fail(ErrorCode::unsupported,
         "{}: {}: expected ByteLevel to be the last pre-tokenizer, found {} behind it", object.what(),
         object.path_of("type"), describe_json(*object.find("type")));
  if (stages_.size() >= kMaxStages)
    fail(ErrorCode::unsupported, "{}: pre_tokenizer: expected at most {} steps, found more", object.what(),
         kMaxStages);
  if (type == "Split") return add_split(object);
  if (type == "ByteLevel") return add_byte_level(object);
  if (type == "Digits") {
    const bool individual = object.optional_bool("individual_digits").value_or(false);
    stages_.push_back({Regex(R"(\p{N})", object.path_of("type")),
                       individual ? Behavior::isolated : Behavior::contiguous, false, false});
    return;
  }
  object.reject("type", "a known pre-tokenizer (Split, Digits, ByteLevel, Sequence)");
}

void PreTokenizer::add_split(const JsonObject& object) {
  const JsonObject pattern = object.required_object("pattern");
  const bool literal = pattern.has("String");
  const char* kind = literal ? "String" : "Regex";
  const std::string source = pattern.required_string(kind);
  if (source.empty()) pattern.reject(kind, "a pattern that is not empty");
  Stage stage;
  stage.pattern.emplace(literal ? escape_pattern(source) : source,
                        fmt::format("{}: {}", object.what(), pattern.path_of(kind)));
  const std::string behavior = object.required_string("behavior");
  constexpr std::pair<std::string_view, Behavior> kNames[] = {
      {"Removed", Behavior::removed},
      {"Isolated", Behavior::isolated},
      {"MergedWithPrevious", Behavior::merged_with_previous},
      {"MergedWithNext", Behavior::merged_with_next},
      {"Contiguous", Behavior::contiguous}};
  const auto* found =
      std::find_if(std::begin(kNames), std::end(kNames), [&](auto& n) { return n.first == behavior; });
  if (found == std::end(kNames)) object.reject("behavior", "a known way to split, such as Isolated");
  stage.behavior = found->second;
  stage.invert = object.optional_bool("invert").value_or(false);
  stages_.push_back(std::move(stage));
}

void PreTokenizer::add_byte_level(const JsonObject& object) {
  Stage stage;
  if (object.optional_bool("use_regex").value_or(true))
    stage.pattern.emplace(kGpt2Pattern, fmt::format("{}: {}", object.what(), object.path_of("use_regex")));
  stage.add_prefix_space = object.optional_bool("add_prefix_space").value_or(true);
  stages_.push_back(std::move(stage));
  has_byte_level_ = true;
}

std::vector<PreTokenizer::Piece> PreTokenizer::cut(const Stage& stage, std::string_view text,
                                                   RegexScratch& scratch) {
  std::vector<Piece> pieces;
  std::optional<size_t> last_end;  // of the previous match
  size_t done = 0, from = 0;
  while (from <= text.size()) {
    const auto match = stage.pattern->find(text, from, scratch);
    if (!match) break;
    if (match->end == match->begin && last_end == match->end) {  // an empty match right behind another: none
      do ++from;
      while (from < text.size() && (static_cast<unsigned char>(text[from]) & 0xc0) == 0x80);
      continue;
    }
    if (match->begin > done) pieces.push_back({done, match->begin, stage.invert});
    pieces.push_back({match->begin, match->end, !stage.invert});
    done = from = match->end;
    last_end = done;
  }
  if (done < text.size()) pieces.push_back({done, text.size(), stage.invert});
  if (stage.behavior == Behavior::isolated) return pieces;
  if (stage.behavior == Behavior::removed) {
    std::erase_if(pieces, [](const Piece& p) { return p.matched; });
    return pieces;
  }
  std::vector<Piece> merged;
  for (const Piece& piece : pieces) {
    bool join = false;
    if (!merged.empty()) {
      const bool before = merged.back().matched;
      join = stage.behavior == Behavior::contiguous             ? before == piece.matched
             : stage.behavior == Behavior::merged_with_previous ? piece.matched && !before
                                                                : before && !piece.matched;
    }
    if (join) {
      merged.back().end = piece.end;
      if (stage.behavior != Behavior::contiguous)
        merged.back().matched = stage.behavior == Behavior::merged_with_previous;
    } else {
      merged.push_back(piece);
    }
  }
  return merged;
}

void PreTokenizer::run(size_t index, std::string_view text, RegexScratch& scratch,
                       const std::function<void(std::string_view)>& word) const {
  if (text.empty()) return;
  if (index == stages_.size()) return word(text);
  const Stage& stage = stages_[index];
  std::string prefixed;
  if (stage.add_prefix_space && text[0] != ' ') {
    prefixed.append(1, ' ').append(text);
    text = prefixed;
  }
  if (!stage.pattern) return run(index + 1, text, scratch, word);
  for (const Piece& piece : cut(stage, text, scratch))
    run(index + 1, text.substr(piece.begin, piece.end - piece.begin), scratch, word);
}

void PreTokenizer::split(std::string_view text, RegexScratch& scratch,
                         const std::function<void(std::string_view)>& word) const {
  run(0, text, scratch, word);
}

}  // namespace indexshare
