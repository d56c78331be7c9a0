// SPDX-License-Identifier: Apache-2.0
// Writes the weights of a model directory: shards laid out in advance, filled in any order.
#pragma once

#include <filesystem>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/tensor.h"

namespace indexshare {

struct TensorLayout {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;

  size_t num_bytes() const;
};

class SafetensorsWriter {
 public:
  /// model.safetensors, or model-00001-of-0000N.safetensors and their index where the tensors take more than
  /// max_shard_bytes. The same layouts give the same files. @throws Error{io}.
  SafetensorsWriter(const std::filesystem::path& directory, const std::vector<TensorLayout>& tensors,
                    size_t max_shard_bytes);
  ~SafetensorsWriter();
  SafetensorsWriter(const SafetensorsWriter&) = delete;
  SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

  /// Stores bytes [offset, offset + num_bytes) of a tensor. @throws Error{io}.
  void write(const std::string& name, size_t offset, const void* data, size_t num_bytes);
  /// Everything on disk. @throws Error{io}.
  void finish();

 private:
  struct Shard {
    std::filesystem::path path;
    int file = -1;
  };
  struct Place {
    size_t shard = 0, begin = 0, num_bytes = 0;  // begin: in the file
  };

  void add_shard(const std::filesystem::path& path, std::vector<const TensorLayout*> tensors);
  void write_index(const std::filesystem::path& directory, const std::vector<TensorLayout>& tensors) const;

  std::vector<Shard> shards_;
  std::unordered_map<std::string, Place> places_;
};

}  // namespace indexshare
