// SPDX-License-Identifier: Apache-2.0
#include "text/template_text.h"

#include <algorithm>

#include "text/unicode.h"

namespace indexshare::chat {

bool is_python_space(char32_t c) { return is_white_space(c) || (c >= 0x1c && c <= 0x1f); }

namespace {

constexpr size_t kPartSteps = 4;  // a part takes memory, so it costs more than a visit

MarkedText cut(const MarkedText& text, size_t begin, size_t end) { return text.substr(begin, end - begin); }

struct Character {
  size_t begin, end;
  char32_t code_point;
};

Character character_at(const MarkedText& text, size_t begin) {
  const Utf8Step step = utf8_step(std::string_view(text.text).substr(begin));
  return {begin, begin + step.length, step.code_point};
}

Character character_before(const MarkedText& text, size_t end) {
  size_t begin = end - 1;
  while (begin > 0 && (static_cast<unsigned char>(text.text[begin]) & 0xc0) == 0x80) --begin;
  return character_at(text, begin);
}

}  // namespace

std::vector<MarkedText> split_at(Interpreter& interpreter, const MarkedText& text, std::string_view separator,
                                 int64_t limit, bool from_right) {
  std::vector<MarkedText> parts;
  if (from_right) {
    size_t end = text.size();
    while (limit < 0 || static_cast<int64_t>(parts.size()) < limit) {
      const size_t found =
          end < separator.size() ? std::string::npos : text.text.rfind(separator, end - separator.size());
      if (found == std::string::npos) break;
      interpreter.charge(kPartSteps), parts.push_back(cut(text, found + separator.size(), end));
      end = found;
    }
    interpreter.charge(kPartSteps), parts.push_back(cut(text, 0, end));
    std::reverse(parts.begin(), parts.end());
    return parts;
  }
  size_t begin = 0;
  while (limit < 0 || static_cast<int64_t>(parts.size()) < limit) {
    const size_t found = text.text.find(separator, begin);
    if (found == std::string::npos) break;
    interpreter.charge(kPartSteps), parts.push_back(cut(text, begin, found));
    begin = found + separator.size();
  }
  interpreter.charge(kPartSteps), parts.push_back(cut(text, begin, text.size()));
  return parts;
}

std::vector<MarkedText> split_at_space(Interpreter& interpreter, const MarkedText& text, int64_t limit,
                                       bool from_right) {
  std::vector<MarkedText> words;
  if (from_right) {
    size_t end = strip_text(text, nullptr, false, true).size();
    while (end > 0 && (limit < 0 || static_cast<int64_t>(words.size()) < limit)) {
      size_t begin = end;
      while (begin > 0 && !is_python_space(character_before(text, begin).code_point))
        begin = character_before(text, begin).begin;
      interpreter.charge(kPartSteps), words.push_back(cut(text, begin, end));
      end = begin;
      while (end > 0 && is_python_space(character_before(text, end).code_point))
        end = character_before(text, end).begin;
    }
    if (strip_text(cut(text, 0, end), nullptr, true, true).size() > 0)
      interpreter.charge(kPartSteps), words.push_back(cut(text, 0, end));
    std::reverse(words.begin(), words.end());
    return words;
  }
  size_t begin = 0;
  while (true) {
    while (begin < text.size() && is_python_space(character_at(text, begin).code_point))
      begin = character_at(text, begin).end;
    if (begin == text.size()) return words;
    size_t end = begin;
    if (limit >= 0 && static_cast<int64_t>(words.size()) >= limit) {
      interpreter.charge(kPartSteps), words.push_back(cut(text, begin, text.size()));
      return words;
    }
    while (end < text.size() && !is_python_space(character_at(text, end).code_point))
      end = character_at(text, end).end;
    interpreter.charge(kPartSteps), words.push_back(cut(text, begin, end));
    begin = end;
  }
}

std::vector<MarkedText> split_lines(Interpreter& interpreter, const MarkedText& text, bool keep_ends) {
  std::vector<MarkedText> lines;
  size_t begin = 0;
  for (size_t i = 0; i < text.size();) {
    const Character c = character_at(text, i);
    const bool ends = (c.code_point >= 0xa && c.code_point <= 0xd) ||
                      (c.code_point >= 0x1c && c.code_point <= 0x1e) || c.code_point == 0x85 ||
                      c.code_point == 0x2028 || c.code_point == 0x2029;
    size_t next = c.end;
    if (ends) {
      if (c.code_point == '\r' && next < text.size() && text.text[next] == '\n') ++next;
      interpreter.charge(kPartSteps), lines.push_back(cut(text, begin, keep_ends ? next : i));
      begin = next;
    }
    i = next;
  }
  if (begin < text.size()) interpreter.charge(kPartSteps), lines.push_back(cut(text, begin, text.size()));
  return lines;
}

MarkedText strip_text(const MarkedText& text, const std::string_view* set, bool front, bool back) {
  const auto goes = [&](const Character& c) {
    if (!set) return is_python_space(c.code_point);
    return set->find(std::string_view(text.text).substr(c.begin, c.end - c.begin)) != std::string_view::npos;
  };
  size_t begin = 0, end = text.size();
  while (front && begin < end && goes(character_at(text, begin))) begin = character_at(text, begin).end;
  while (back && end > begin && goes(character_before(text, end))) end = character_before(text, end).begin;
  return cut(text, begin, end);
}

MarkedText replace_text(Interpreter& interpreter, const MarkedText& text, const MarkedText& from,
                        const MarkedText& to, int64_t limit) {
  MarkedText out;
  size_t begin = 0;
  interpreter.charge_scan(text);
  const auto insert = [&] {
    interpreter.charge(1);
    interpreter.charge_text(to.size());
    interpreter.check_length(out.size() + to.size());
    out.append(to);
  };
  for (int64_t count = 0; limit < 0 || count < limit; ++count) {
    if (from.text.empty()) {  // between all characters, as Python does
      insert();
      if (begin == text.size()) return out;
      const size_t next = character_at(text, begin).end;
      out.append(text, begin, next - begin);
      begin = next;
      continue;
    }
    const size_t found = text.text.find(from.text, begin);
    if (found == std::string::npos) break;
    out.append(text, begin, found - begin);
    insert();
    begin = found + from.size();
  }
  out.append(text, begin, text.size() - begin);
  interpreter.charge_text(out.size());
  return out;
}

MarkedText join_texts(Interpreter& interpreter, const Values& items, const MarkedText& separator) {
  MarkedText out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i) {
      interpreter.charge_text(separator.size());
      out.append(separator);
    }
    out.append(interpreter.print(items[i]));
    interpreter.check_length(out.size());
  }
  interpreter.charge_text(out.size());
  return out;
}

}  // namespace indexshare::chat
