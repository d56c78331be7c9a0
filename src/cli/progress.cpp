// SPDX-License-Identifier: Apache-2.0
#include "progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace indexshare::cli {
namespace {

constexpr double kSecondsBetweenDrawings = 0.1;
constexpr double kSecondsBeforeEstimate = 0.5;  // rates are noise before
constexpr int64_t kBarCells = 24;

}  // namespace

ProgressBar::ProgressBar(std::string label, bool wanted, ProgressUnit unit)
    : label_(std::move(label)), drawn_on_(wanted && isatty(STDERR_FILENO)), unit_(unit) {}

void ProgressBar::update(int64_t done, int64_t total) {
  if (!drawn_on_ || total <= 0) return;
  const double now = watch_.seconds();
  if (now - last_drawn_ < kSecondsBetweenDrawings && done < total) return;
  last_drawn_ = now;
  const std::string text = line(done, total);
  fmt::print(stderr, "\r{:<{}}", text, width_);  // spaces over the rest of a longer line
  std::fflush(stderr);
  width_ = text.size();
}

void ProgressBar::wipe() {
  if (width_ == 0) return;
  fmt::print(stderr, "\r{:<{}}\r", "", width_);
  std::fflush(stderr);
  width_ = 0;
}

std::string ProgressBar::line(int64_t done, int64_t total) const {
  const double share = std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
  const std::string cells(static_cast<size_t>(share * kBarCells), '#');
  const auto amount = [this](int64_t n) {
    return unit_ == ProgressUnit::bytes ? human_bytes(static_cast<double>(n)) : with_commas(n);
  };
  std::string text = fmt::format("{} [{:<{}}] {:3.0f}%  {}/{}", label_, cells, kBarCells, 100 * share,
                                 amount(done), amount(total));
  const double seconds = watch_.seconds();
  if (seconds > kSecondsBeforeEstimate && done > 0) {
    const double rate = static_cast<double>(done) / seconds;
    text += fmt::format("  {}/s  {:.0f} s left", amount(static_cast<int64_t>(rate)),
                        static_cast<double>(total - done) / rate);
  }
  return text;
}

}  // namespace indexshare::cli
