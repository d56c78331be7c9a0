// SPDX-License-Identifier: Apache-2.0
// TensorLoader: one tensor of the checkpoint at a time, checked for shape and type and handed to the backend
// in the format that its role asks for. What is unpacked or dequantised on the way lives no longer than its
// tensor.
#pragma once

#include <set>
#include <span>

#include "model/weight_formats.h"
#include "model/weights.h"

namespace indexshare {

class TensorLoader {
 public:
  /// @param weights gets notes, sizes, and what matrices without memory of their own point into
  TensorLoader(const Checkpoint& checkpoint, std::span<const PackedScheme> schemes, Backend& backend,
               const WeightOptions& options, Weights& weights);

  Vector vector(const std::string& name, int64_t dim);
  MatrixPtr matrix(const std::string& name, const std::vector<int64_t>& shape);
  /// For embed() alone: exactly as stored, whatever the others are.
  MatrixPtr table(const std::string& name, const std::vector<int64_t>& shape);
  /// A table as the head of a model whose head is tied to it.
  MatrixPtr tied_head(const std::string& name, const std::vector<int64_t>& shape);
  bool quantises_tied_head() const { return format_at_load(WeightRole::delicate) != WeightFormat::as_stored; }

  struct HeadRows {
    int64_t num_heads = 0, key = 0, value = 0;  // rows of one head: its key's, then its value's
  };
  /// kv_b_proj cut by head: keys transposed to [cols, key], values [value, cols].
  void cut_by_head(const std::string& name, HeadRows rows, int64_t cols, std::vector<MatrixPtr>& keys,
                   std::vector<MatrixPtr>& values);

  bool has(const std::string& name) const;  // stored or packed
  const std::set<std::string>& used() const { return used_; }
  void finish();  // the notes and totals that need to have seen everything

 private:
  struct Wide;  // f32 values and who owns them

  std::string place(const std::string& name) const;
  WeightFormat format_at_load(WeightRole role) const;
  void use(const TensorView& tensor);
  const TensorView& stored(const std::string& name, const std::vector<int64_t>& shape);
  PackedWeight packed(const std::string& name, const std::vector<int64_t>& shape);
  TensorView scales(const std::string& name, const TensorView& weight);
  MatrixPtr load_stored(const TensorView& weight, const TensorView& scale, WeightRole role,
                        WeightFormat format);
  MatrixPtr load_packed(const std::string& name, const PackedWeight& weight, WeightRole role);
  MatrixPtr load_codes(const std::string& name, const PackedWeight& weight, WeightRole role,
                       WeightFormat format);
  MatrixPtr load(MatrixSource source, WeightRole role, std::shared_ptr<const void> owner);
  Wide widen(const std::string& name, const PackedWeight& weight) const;
  Wide widen(const TensorView& rows, const TensorView& scale, int64_t first) const;
  void count(const MatrixSource& source, WeightRole role);
  void check_finite(const TensorView& tensor) const;

  const Checkpoint& checkpoint_;
  std::span<const PackedScheme> schemes_;
  Backend& backend_;
  const WeightOptions& options_;
  Weights& weights_;
  std::set<std::string> used_;
  size_t done_bytes_ = 0;
  int64_t num_requantised_ = 0;
  std::string first_requantised_;
};

}  // namespace indexshare
