// SPDX-License-Identifier: Apache-2.0
#include "text/byte_alphabet.h"

#include <array>

#include "text/unicode.h"

namespace indexshare {

namespace {

constexpr bool stands_for_itself(int byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
}

constexpr int kNumCharacters = 256 + 68;

struct Alphabet {
  std::array<char32_t, 256> character{};
  std::array<int, kNumCharacters> byte{};  // -1 where the character stands for none
  constexpr Alphabet() {
    byte.fill(-1);
    char32_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      character[b] = stands_for_itself(b) ? static_cast<char32_t>(b) : next++;
      byte[character[b]] = b;
    }
  }
};

constexpr Alphabet kAlphabet;

}  // namespace

std::optional<std::string> bytes_of_spelling(std::string_view spelling) {
  std::string bytes;
  bytes.reserve(spelling.size());
  while (!spelling.empty()) {
    const Utf8Step step = utf8_step(spelling);
    if (step.kind != Utf8Step::valid || step.code_point >= kNumCharacters ||
        kAlphabet.byte[step.code_point] < 0)
      return std::nullopt;
    bytes += static_cast<char>(kAlphabet.byte[step.code_point]);
    spelling.remove_prefix(step.length);
  }
  return bytes;
}

std::string spelling_of_bytes(std::string_view bytes) {
  std::string spelling;
  for (char c : bytes) append_utf8(spelling, kAlphabet.character[static_cast<unsigned char>(c)]);
  return spelling;
}

}  // namespace indexshare
