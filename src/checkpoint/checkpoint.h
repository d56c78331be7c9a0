// SPDX-License-Identifier: Apache-2.0
// Checkpoint: the tensors of a Hugging Face model directory, mapped, checked and found by name.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/tensor.h"

namespace indexshare {

/// A directory as given, or `org/name` looked up offline in the HF cache ($HF_HUB_CACHE, $HF_HOME/hub,
/// ~/.cache/huggingface/hub). @throws Error{not_found} saying where it looked.
std::filesystem::path resolve_model(const std::string& model);

class Checkpoint {
 public:
  /// Maps model.safetensors, or the shards that model.safetensors.index.json lists, and validates every
  /// header.
  /// @throws Error{unsupported} naming file and field, Error{not_found} for a missing file.
  static Checkpoint open(const std::filesystem::path& directory);
  Checkpoint(Checkpoint&&) noexcept;
  Checkpoint& operator=(Checkpoint&&) noexcept;
  ~Checkpoint();

  const TensorView* find(const std::string& name) const;  // nullptr where there is none
  const TensorView& get(
      const std::string& name) const;              // @throws Error{unsupported} naming tensor and directory
  const std::vector<TensorView>& tensors() const;  // all, in file order
  size_t total_bytes() const;
  const std::filesystem::path& file_of(const std::string& name) const;  // of a tensor that find() finds
  const std::filesystem::path& directory() const;

  /// Tells the kernel that the tensor's pages will not be needed again (a packed copy exists).
  void release(const TensorView& tensor) const;

 private:
  struct State;
  explicit Checkpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace indexshare
