// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "base/check.h"
#include "base/json.h"
#include "checkpoint/new_directory.h"
#include "checkpoint/safetensors.h"

namespace indexshare {

namespace fs = std::filesystem;

namespace {

void write_all(int file, const fs::path& path, size_t begin, const void* data, size_t num_bytes) {
  const auto* bytes = static_cast<const std::byte*>(data);
  for (size_t done = 0; done < num_bytes;) {
    const ssize_t count = pwrite(file, bytes + done, num_bytes - done, static_cast<off_t>(begin + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) fail_to_write(path);
    done += static_cast<size_t>(count);
  }
}

std::vector<std::vector<const TensorLayout*>> split(const std::vector<TensorLayout>& tensors,
                                                    size_t max_shard_bytes) {
  std::vector<std::vector<const TensorLayout*>> shards(1);
  size_t filled = 0;
  for (const TensorLayout& tensor : tensors) {
    if (filled > 0 && filled + tensor.num_bytes() > max_shard_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(&tensor);
    filled += tensor.num_bytes();
  }
  return shards;
}

}  // namespace

size_t TensorLayout::num_bytes() const { return TensorView{name, dtype, shape, nullptr}.num_bytes(); }

SafetensorsWriter::SafetensorsWriter(const fs::path& directory, const std::vector<TensorLayout>& tensors,
                                     size_t max_shard_bytes) {
  const auto shards = split(tensors, max_shard_bytes);
  for (size_t i = 0; i < shards.size(); ++i)
    add_shard(directory / (shards.size() == 1
                               ? "model.safetensors"
                               : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size())),
              shards[i]);
  if (shards.size() > 1) write_index(directory, tensors);
}

SafetensorsWriter::~SafetensorsWriter() {
  for (const Shard& shard : shards_)
    if (shard.file >= 0) close(shard.file);
}

void SafetensorsWriter::add_shard(const fs::path& path, std::vector<const TensorLayout*> tensors) {
  // Wide elements first: every tensor is then aligned to its own element.
  std::ranges::stable_sort(tensors, std::greater<>(), [](const auto* t) { return dtype_bytes(t->dtype); });
  Json header = {{"__metadata__", {{"format", "pt"}}}};
  size_t offset = 0;
  for (const TensorLayout* tensor : tensors) {
    const size_t end = offset + tensor->num_bytes();
    header[tensor->name] = {{"dtype", safetensors_dtype(tensor->dtype)},
                            {"shape", tensor->shape},
                            {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string length;
  for (int i = 0; i < 8; ++i) length += static_cast<char>((uint64_t{text.size()} >> (8 * i)) & 0xff);
  text = length + text;

  Shard& shard = shards_.emplace_back(Shard{path});
  shard.file = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (shard.file < 0 || ftruncate(shard.file, static_cast<off_t>(text.size() + offset)) != 0)
    fail_to_write(path);
  write_all(shard.file, path, 0, text.data(), text.size());
  for (const TensorLayout* tensor : tensors) {
    const size_t begin = text.size() + header[tensor->name]["data_offsets"][0].get<size_t>();
    places_[tensor->name] = {shards_.size() - 1, begin, tensor->num_bytes()};
  }
}

void SafetensorsWriter::write_index(const fs::path& directory,
                                    const std::vector<TensorLayout>& tensors) const {
  size_t total = 0;
  std::map<std::string, std::string> shard_of;
  for (const TensorLayout& tensor : tensors) {
    total += tensor.num_bytes();
    shard_of[tensor.name] = shards_[places_.at(tensor.name).shard].path.filename().string();
  }
  const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", shard_of}};
  write_text_file(directory / "model.safetensors.index.json", index.dump(2) + "\n");
}

void SafetensorsWriter::write(const std::string& name, size_t offset, const void* data, size_t num_bytes) {
  const Place& place = places_.at(name);
  ENSURE(offset + num_bytes <= place.num_bytes, "{}: bytes [{}, +{}) of {}", name, offset, num_bytes,
         place.num_bytes);
  const Shard& shard = shards_[place.shard];
  write_all(shard.file, shard.path, place.begin + offset, data, num_bytes);
}

void SafetensorsWriter::finish() {
  for (Shard& shard : shards_) {
    const bool synced = fsync(shard.file) == 0;
    const int file = std::exchange(shard.file, -1);
    if (close(file) != 0 || !synced) fail_to_write(shard.path);
  }
}

}  // namespace indexshare
