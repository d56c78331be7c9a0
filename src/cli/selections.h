// SPDX-License-Identifier: Apache-2.0
// Selections as files, int32 [num_full_layers, num_tokens, width], ascending positions padded with -1: what
// each full layer chose (--dump-selections), or what it is made to use instead (--force-selections).
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "indexshare/engine.h"
#include "npy.h"

namespace indexshare::cli {

/// One call of SelectionHook: rows [num_rows, width] of one full layer.
struct SelectionRows {
  int64_t ordinal;  // of the layer among the full ones
  int64_t first_position, num_rows, width;
  std::span<int32_t> positions;

  std::span<int32_t> row(int64_t i) const { return positions.subspan(i * width, width); }
};

class SelectionDump {
 public:
  SelectionDump(std::string path, int64_t num_full_layers, int64_t num_tokens)
      : path_(std::move(path)), num_full_layers_(num_full_layers), num_tokens_(num_tokens) {}

  void write(const SelectionRows& rows);
  void commit();  // @throws std::runtime_error where no layer selected anything

 private:
  std::string path_;
  int64_t num_full_layers_, num_tokens_;
  int64_t width_ = 0;  // of the file: that of the first rows
  std::vector<int32_t> line_;
  std::unique_ptr<NpyWriter> file_;
};

class ForcedSelections {
 public:
  /// @throws UsageError where the shape or an entry is wrong: order, padding, positions not yet visible.
  ForcedSelections(const std::string& path, int64_t num_full_layers, int64_t num_tokens);

  void overwrite(const SelectionRows& rows) const;

 private:
  void check_row(int64_t ordinal, int64_t position) const;
  std::span<const int32_t> row(int64_t ordinal, int64_t position) const;

  std::string path_;
  IntArray array_;
};

/// A hook that dumps the engine's own choice and then forces another, each where wanted.
SelectionHook make_selection_hook(const std::vector<int>& full_layers, SelectionDump* dump,
                                  const ForcedSelections* forced);

}  // namespace indexshare::cli
