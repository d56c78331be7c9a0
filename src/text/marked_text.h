// SPDX-License-Identifier: Apache-2.0
// A string that remembers which of its bytes came from outside the template, through every operation on it.
#pragma once

#include <string>
#include <string_view>

namespace indexshare {

struct MarkedText {
  std::string text;
  std::string
      marks;  // empty: no byte is from outside; else '\1' for each byte that is and '\0' for the others

  MarkedText() = default;
  explicit MarkedText(std::string_view content, bool outside = false)
      : text(content), marks(outside ? content.size() : 0, '\1') {}

  size_t size() const { return text.size(); }

  void append(std::string_view content, bool outside = false) {
    if (outside || !marks.empty()) {
      marks.resize(text.size(), '\0');
      marks.append(content.size(), outside ? '\1' : '\0');
    }
    text += content;
  }

  void append(const MarkedText& other) { append(other, 0, other.size()); }

  void append(const MarkedText& other, size_t begin, size_t length) {
    if (length == 0) return;
    if (!other.marks.empty() && marks.empty()) marks.assign(text.size(), '\0');
    text.append(other.text, begin, length);
    if (other.marks.empty()) {
      if (!marks.empty()) marks.append(length, '\0');
    } else {
      marks.append(other.marks, begin, length);
    }
  }

  MarkedText substr(size_t begin, size_t length) const {
    MarkedText out;
    out.append(*this, begin, length);
    return out;
  }

  bool outside(size_t index) const { return !marks.empty() && marks[index] != '\0'; }
};

}  // namespace indexshare
