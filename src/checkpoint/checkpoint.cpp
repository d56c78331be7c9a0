// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <unordered_map>

#include "base/check.h"
#include "base/json.h"
#include "checkpoint/mapped_file.h"
#include "checkpoint/safetensors.h"

namespace indexshare {

namespace fs = std::filesystem;

namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

[[noreturn]] void refuse_missing_weights(const fs::path& directory) {
  std::set<fs::path> files;  // sorted, so that the message does not depend on the file system
  for (const auto& entry : fs::directory_iterator(directory)) files.insert(entry.path());
  for (const fs::path& file : files) refuse_foreign_format(file);
  fail(ErrorCode::not_found, "{}: expected {} or {}, found neither", directory.string(), kSingleFile,
       kIndexFile);
}

// The folder that a file of the model may resolve into: the directory itself or, for a snapshot of the
// Hugging Face cache (REPO/snapshots/REVISION), whose files are links into REPO/blobs, the repository's
// folder.
fs::path allowed_root(const fs::path& directory) {
  const fs::path real = fs::canonical(directory);
  const fs::path snapshots = real.parent_path(), repository = snapshots.parent_path();
  const bool cached =
      snapshots.filename() == "snapshots" && repository.filename().string().starts_with("models--");
  return cached ? repository : real;
}

// Also true for a link that leads nowhere, which deserves its own message.
bool is_there(const fs::path& file) { return fs::symlink_status(file).type() != fs::file_type::not_found; }

bool is_inside(const fs::path& file, const fs::path& root) {
  return std::mismatch(root.begin(), root.end(), file.begin(), file.end()).first == root.end();
}

fs::path resolve_file(const fs::path& directory, const std::string& name, const fs::path& root) {
  const fs::path path = directory / name;
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  if (error) fail(ErrorCode::not_found, "{}: cannot be opened: {}", path.string(), error.message());
  if (!is_inside(real, root))
    fail(ErrorCode::unsupported, "{}: expected a file inside {}, found a link to {}", path.string(),
         root.string(), real.string());
  return path;
}

void check_shard_name(const std::string& name, const std::string& what, const std::string& tensor) {
  const bool printable = std::all_of(name.begin(), name.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
  if (!printable || name.size() > 255 || name.find_first_of("/\\") != std::string::npos ||
      name.starts_with('.') || !name.ends_with(".safetensors"))
    fail(ErrorCode::unsupported,
         "{}: weight_map: expected a plain file name ending in .safetensors for {}, found {}", what,
         quoted_name(tensor), quoted_name(name));
}

/// Tensor name -> shard file name.
std::map<std::string, std::string> read_index(const fs::path& path) {
  const Json document =
      read_json_file(path, {.max_bytes = 100'000'000, .max_depth = 8, .max_values = 2'000'000});
  const std::string what = path.string();
  const JsonObject weight_map = JsonObject(document, what).required_object("weight_map");
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, shard] : weight_map.json().items()) {
    if (!shard.is_string())
      fail(ErrorCode::unsupported, "{}: weight_map: expected a file name for {}, found {}", what,
           quoted_name(tensor), describe_json(shard));
    check_shard_name(shard.get_ref<const std::string&>(), what, tensor);
    shards[tensor] = shard.get<std::string>();
  }
  if (shards.empty())
    fail(ErrorCode::unsupported, "{}: weight_map: expected at least one tensor, found none", what);
  return shards;
}

}  // namespace

struct Checkpoint::State {
  fs::path directory;
  std::vector<MappedFile> files;
  std::vector<TensorView> tensors;
  std::vector<size_t> file_of;  // [tensors] index into files
  std::unordered_map<std::string, size_t> by_name;
  std::vector<std::unique_ptr<std::byte[]>> aligned_copies;
  size_t total_bytes = 0;

  // As transformers looks: the single file first, then the index.
  void open_files() {
    const fs::path root = allowed_root(directory);
    if (is_there(directory / kSingleFile)) return add_file(resolve_file(directory, kSingleFile, root));
    if (!is_there(directory / kIndexFile)) refuse_missing_weights(directory);
    const fs::path index = resolve_file(directory, kIndexFile, root);
    const auto shard_of = read_index(index);
    std::set<std::string> shards;
    for (const auto& [tensor, shard] : shard_of) shards.insert(shard);
    for (const std::string& shard : shards) add_file(resolve_file(directory, shard, root));
    check_index(shard_of, index.string());
  }

  void add_file(const fs::path& path) {
    files.emplace_back(path);
    const MappedFile& file = files.back();
    for (TensorView& tensor : parse_safetensors(file.data(), file.size(), path.string())) {
      const auto [place, is_new] = by_name.emplace(tensor.name, tensors.size());
      if (!is_new)
        fail(ErrorCode::unsupported, "{}: expected each tensor in one file, found {} here and in {}",
             path.string(), quoted_name(tensor.name),
             files[file_of[place->second]].path().filename().string());
      align(tensor);
      total_bytes += tensor.num_bytes();
      tensors.push_back(std::move(tensor));
      file_of.push_back(files.size() - 1);
    }
    file.release(file.data(), file.size());  // the header's pages
  }

  // The format does not promise aligned data; writers of models do, so a copy is rare and small.
  void align(TensorView& tensor) {
    if (reinterpret_cast<uintptr_t>(tensor.data) % dtype_bytes(tensor.dtype) == 0 || tensor.num_bytes() == 0)
      return;
    aligned_copies.push_back(std::make_unique<std::byte[]>(tensor.num_bytes()));
    std::memcpy(aligned_copies.back().get(), tensor.data, tensor.num_bytes());
    tensor.data = aligned_copies.back().get();
  }

  void check_index(const std::map<std::string, std::string>& shard_of, const std::string& what) const {
    for (const auto& [tensor, shard] : shard_of) {
      const auto place = by_name.find(tensor);
      if (place == by_name.end())
        fail(ErrorCode::unsupported, "{}: weight_map: expected {} in {}, found it nowhere", what,
             quoted_name(tensor), shard);
      const std::string found = files[file_of[place->second]].path().filename().string();
      if (found != shard)
        fail(ErrorCode::unsupported, "{}: weight_map: expected {} in {}, found it in {}", what,
             quoted_name(tensor), shard, found);
    }
  }
};

Checkpoint Checkpoint::open(const fs::path& directory) {
  std::error_code error;
  refuse_foreign_format(directory);
  if (!fs::exists(directory, error)) fail(ErrorCode::not_found, "{}: no such directory", directory.string());
  if (!fs::is_directory(directory, error))
    fail(ErrorCode::unsupported, "{}: expected a model directory, found a file", directory.string());
  auto state = std::make_unique<State>();
  state->directory = directory;
  try {
    state->open_files();
  } catch (const fs::filesystem_error& failure) {
    fail(ErrorCode::not_found, "{}: cannot be read: {}", directory.string(), failure.code().message());
  }
  return Checkpoint(std::move(state));
}

Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint& Checkpoint::operator=(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

const TensorView* Checkpoint::find(const std::string& name) const {
  const auto place = state_->by_name.find(name);
  return place == state_->by_name.end() ? nullptr : &state_->tensors[place->second];
}

const TensorView& Checkpoint::get(const std::string& name) const {
  const TensorView* tensor = find(name);
  if (!tensor)
    fail(ErrorCode::unsupported, "{}: expected the tensor {}, found none of that name", directory().string(),
         name);
  return *tensor;
}

const std::vector<TensorView>& Checkpoint::tensors() const { return state_->tensors; }
size_t Checkpoint::total_bytes() const { return state_->total_bytes; }
const fs::path& Checkpoint::file_of(const std::string& name) const {
  return state_->files[state_->file_of[state_->by_name.at(name)]].path();
}

const fs::path& Checkpoint::directory() const { return state_->directory; }

void Checkpoint::release(const TensorView& tensor) const {
  const auto place = state_->by_name.find(tensor.name);
  ENSURE(place != state_->by_name.end(), "{} is not a tensor of {}", tensor.name, directory().string());
  const MappedFile& file = state_->files[state_->file_of[place->second]];
  const std::byte* data = state_->tensors[place->second].data;
  if (data >= file.data() && data < file.data() + file.size()) file.release(data, tensor.num_bytes());
}

}  // namespace indexshare
