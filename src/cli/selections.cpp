// SPDX-License-Identifier: Apache-2.0
#include "selections.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "exit_codes.h"

namespace indexshare::cli {

void SelectionDump::write(const SelectionRows& rows) {
  if (!file_) {
    width_ = rows.width;
    file_ = std::make_unique<NpyWriter>(path_, "<i4",
                                        std::vector<int64_t>{num_full_layers_, num_tokens_, width_});
  }
  if (rows.width > width_) {
    throw std::logic_error(fmt::format("selections grew from {} to {} positions wide", width_, rows.width));
  }
  for (int64_t i = 0; i < rows.num_rows; ++i) {
    line_.assign(width_, -1);
    std::ranges::copy(rows.row(i), line_.begin());
    file_->write_at((rows.ordinal * num_tokens_ + rows.first_position + i) * width_, line_.data(),
                    line_.size());
  }
}

void SelectionDump::commit() {
  if (!file_) throw std::runtime_error("--dump-selections: no layer of this model selects positions");
  file_->commit();
}

ForcedSelections::ForcedSelections(const std::string& path, int64_t num_full_layers, int64_t num_tokens)
    : path_(path), array_(read_int_npy(path, 3)) {
  if (array_.shape[0] != num_full_layers || array_.shape[1] != num_tokens) {
    throw UsageError(fmt::format("{}: expected [{}, {}, width], the file has [{}, {}, {}]", path,
                                 num_full_layers, num_tokens, array_.shape[0], array_.shape[1],
                                 array_.shape[2]));
  }
  for (int64_t ordinal = 0; ordinal < num_full_layers; ++ordinal) {
    for (int64_t position = 0; position < num_tokens; ++position) check_row(ordinal, position);
  }
}

std::span<const int32_t> ForcedSelections::row(int64_t ordinal, int64_t position) const {
  const int64_t width = array_.shape[2];
  return std::span(array_.values).subspan((ordinal * array_.shape[1] + position) * width, width);
}

void ForcedSelections::check_row(int64_t ordinal, int64_t position) const {
  const auto entries = row(ordinal, position);
  const auto padding = std::ranges::find(entries, -1);
  const bool ascending = std::adjacent_find(entries.begin(), padding, std::greater_equal<>()) == padding;
  const bool padded = std::all_of(padding, entries.end(), [](int32_t p) { return p == -1; });
  const bool visible = padding != entries.begin() && entries.front() >= 0 && *(padding - 1) <= position;
  if (ascending && padded && visible) return;
  throw UsageError(
      fmt::format("{}: row [{}, {}] is not a set of visible positions, ascending and padded with -1", path_,
                  ordinal, position));
}

void ForcedSelections::overwrite(const SelectionRows& rows) const {
  for (int64_t i = 0; i < rows.num_rows; ++i) {
    const auto source = row(rows.ordinal, rows.first_position + i);
    const auto target = rows.row(i);
    const auto end = std::ranges::find(source, -1);
    const auto count = end - source.begin();
    if (count > rows.width) {
      throw UsageError(fmt::format("{}: row [{}, {}] holds {} positions, the model attends {} at most", path_,
                                   rows.ordinal, rows.first_position + i, count, rows.width));
    }
    std::fill(std::copy(source.begin(), end, target.begin()), target.end(), -1);
  }
}

SelectionHook make_selection_hook(const std::vector<int>& full_layers, SelectionDump* dump,
                                  const ForcedSelections* forced) {
  if (dump == nullptr && forced == nullptr) return nullptr;
  return
      [=](int layer, int64_t first_position, int64_t num_rows, int64_t width, std::span<int32_t> positions) {
        const auto found = std::ranges::find(full_layers, layer);
        if (found == full_layers.end()) {
          throw std::logic_error(fmt::format("layer {} selects, but is no full layer", layer));
        }
        const SelectionRows rows{found - full_layers.begin(), first_position, num_rows, width, positions};
        if (dump != nullptr) dump->write(rows);
        if (forced != nullptr) forced->overwrite(rows);
      };
}

}  // namespace indexshare::cli
