// SPDX-License-Identifier: Apache-2.0
// One way to declare a flag whose value is a number or one of a few words: parsed in full (no hexadecimal, no
// trailing letters, no wrap-around), range-checked, with its default shown in --help.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

namespace indexshare::cli {

/// Flags declared while it lives stand under this heading in --help.
class FlagGroup {
 public:
  FlagGroup(CLI::App& app, const std::string& heading)
      : app_(app), before_(app.option_defaults()->get_group()) {
    app.option_defaults()->group(heading);
  }
  ~FlagGroup() { app_.option_defaults()->group(before_); }
  FlagGroup(const FlagGroup&) = delete;
  FlagGroup& operator=(const FlagGroup&) = delete;

 private:
  CLI::App& app_;
  std::string before_;
};

template <typename T>
struct Range {
  T low = std::numeric_limits<T>::lowest(), high = std::numeric_limits<T>::max();
  bool above_low = false;  // low itself is outside
};

/// @throws CLI::ValidationError naming the flag.
template <typename T>
T parse_number(const std::string& flag, const std::string& text, Range<T> range = {}) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = end == text.data() + text.size() && !text.empty();
  if (!whole || error == std::errc::invalid_argument) {
    throw CLI::ValidationError(
        flag,
        fmt::format("expected {}, got \"{}\"", std::is_integral_v<T> ? "a whole number" : "a number", text));
  }
  bool inside = error == std::errc() && value >= range.low && value <= range.high;  // false for NaN
  if (range.above_low) inside = inside && value > range.low;
  if constexpr (std::is_floating_point_v<T>) inside = inside && std::isfinite(value);
  if (!inside) {
    const bool no_upper_bound = range.high == std::numeric_limits<T>::max() && error == std::errc();
    std::string bounds = fmt::format("between {} and {}", range.low, range.high);
    if (range.above_low) bounds = fmt::format("more than {}, at most {}", range.low, range.high);
    if (no_upper_bound) bounds = fmt::format("at least {}", range.low);
    throw CLI::ValidationError(flag, fmt::format("expected {}, got {}", bounds, text));
  }
  return value;
}

template <typename T>
void add_number(CLI::App& app, const std::string& names, std::function<void(T)> take, const std::string& help,
                Range<T> range, const std::string& default_text) {
  app.add_option_function<std::string>(
         names, [=](const std::string& text) { take(parse_number<T>(names, text, range)); }, help)
      ->type_name("N")
      ->default_str(default_text);
}

template <typename T>
void add_number(CLI::App& app, const std::string& names, T& target, const std::string& help, Range<T> range) {
  add_number<T>(app, names, [&target](T value) { target = value; }, help, range, fmt::format("{}", target));
}

/// "4096,131072"; a repeated flag replaces the list.
inline void add_number_list(CLI::App& app, const std::string& names, std::vector<int64_t>& target,
                            const std::string& help, Range<int64_t> range) {
  const auto take = [=, &target](const std::string& text) {
    target.clear();
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find(',', begin), text.size());
      target.push_back(parse_number(names, text.substr(begin, end - begin), range));
      begin = end + 1;
    }
  };
  app.add_option_function<std::string>(names, take, help)
      ->type_name("N,N,...")
      ->default_str(fmt::format("{}", fmt::join(target, ",")));
}

template <typename T>
struct Choice {
  const char* word;
  T value;
};

template <typename T>
void add_choice(CLI::App& app, const std::string& names, T& target, const std::string& help,
                const std::vector<Choice<T>>& choices) {
  std::string words, default_word;
  for (const auto& choice : choices) {
    words += (words.empty() ? "" : "|") + std::string(choice.word);
    if (choice.value == target) default_word = choice.word;
  }
  const auto take = [=, &target](const std::string& text) {
    for (const auto& choice : choices) {
      if (text == choice.word) {
        target = choice.value;
        return;
      }
    }
    throw CLI::ValidationError(names, fmt::format("expected {}, got \"{}\"", words, text));
  };
  app.add_option_function<std::string>(names, take, help)->type_name(words)->default_str(default_word);
}

}  // namespace indexshare::cli
