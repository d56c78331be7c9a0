// SPDX-License-Identifier: Apache-2.0
#include "indexshare/quantize.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "backend/quantise.h"
#include "base/check.h"
#include "base/json.h"
#include "base/thread_pool.h"
#include "checkpoint/new_directory.h"
#include "checkpoint/packed_weights.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_writer.h"
#include "model/model_config.h"
#include "model/weight_formats.h"
#include "quantize/quantization_config.h"
#include "quantize/stored_weight.h"

namespace indexshare {

namespace fs = std::filesystem;

namespace {

constexpr size_t kMaxShardBytes = 5'000'000'000;
constexpr int64_t kSlabElements = int64_t{1} << 22;  // in memory at a time

bool is_inside(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first == folder.end();
}

std::string kind_of(const std::string& name, WeightFormat format) {
  if (format == WeightFormat::as_stored) return "kept";
  if (name == "lm_head.weight") return "head";
  if (name.find(".indexer.") != std::string::npos) return "indexer";
  if (name.find(".self_attn.") != std::string::npos) return "attention";
  return name.find(".experts.") != std::string::npos ? "experts" : "MLP";
}

// How one row is quantised: codes in words, a scale a group, and what that costs.
struct RowError {
  double squares = 0, squared_error = 0;
};

RowError quantise_row(const std::vector<float>& row, int num_bits, uint32_t* words, float* scales) {
  const auto cols = static_cast<int64_t>(row.size());
  const int64_t group = num_bits == 8 ? kInt8WeightGroup : kInt4WeightGroup;
  std::vector<int8_t> codes(row.size());
  RowError error;
  for (int64_t begin = 0; begin < cols; begin += group) {
    const int64_t count = std::min(group, cols - begin);
    const float scale = num_bits == 8 ? quantise_int8(row.data() + begin, count, codes.data() + begin)
                                      : quantise_int4(row.data() + begin, count, codes.data() + begin);
    scales[begin / group] = scale;
    for (int64_t c = begin; c < begin + count; ++c) {
      const double value = row[c], difference = value - static_cast<float>(codes[c]) * scale;
      error.squares += value * value;
      error.squared_error += difference * difference;
    }
  }
  pack_row(codes.data(), cols, num_bits, words);
  return error;
}

class Quantizer {
 public:
  Quantizer(const fs::path& directory, const QuantizeOptions& options)
      : directory_(directory),
        options_(options),
        wanted_(weight_format_of(options.weights)),
        checkpoint_(Checkpoint::open(directory)),
        pool_(options.threads) {
    for (const TensorView& tensor : checkpoint_.tensors()) plan(tensor);
  }

  size_t bytes_after() const {
    size_t sum = 0;
    for (const TensorLayout& layout : layouts_) sum += layout.num_bytes();
    return sum;
  }

  QuantizeReport write(const fs::path& out) {
    SafetensorsWriter writer(out, layouts_, kMaxShardBytes);
    for (const Item& item : items_) {
      Tally& tally = tallies_[kind_of(item.weight.values->name, item.format)];
      tally.kind.format = item.format == WeightFormat::as_stored ? "" : weight_format_name(item.format);
      tally.kind.num_weights += item.weight.values->num_elements();
      tally.kind.bytes_before += bytes_of(item.weight);
      if (item.format != WeightFormat::as_stored)
        write_quantised(writer, item, tally);
      else
        write_kept(writer, item.weight, tally);
      report_progress(item.weight);
    }
    writer.finish();
    return report();
  }

  /// Weights left as they are: what quantization_config must list.
  std::vector<std::string> kept_modules() const {
    std::vector<std::string> names;
    constexpr std::string_view kWeight = ".weight";
    for (const Item& item : items_)
      if (const std::string& name = item.weight.values->name;
          item.format == WeightFormat::as_stored && name.ends_with(kWeight))
        names.push_back(name.substr(0, name.size() - kWeight.size()));
    return names;
  }

 private:
  struct Item {
    StoredWeight weight;
    WeightFormat format = WeightFormat::as_stored;
  };
  struct Tally {
    QuantizedKind kind;
    RowError error;
  };

  void plan(const TensorView& tensor) {
    const std::string& name = tensor.name;
    constexpr std::string_view kScale = "_scale_inv";
    if (name.ends_with(kScale)) {  // written, or used up, with the weight it belongs to
      const TensorView* weight = checkpoint_.find(name.substr(0, name.size() - kScale.size()));
      if (weight && weight->dtype == DType::f8_e4m3) return;
    }
    const bool is_matrix = tensor.shape.size() == 2 && tensor.num_elements() > 0;
    if (tensor.dtype == DType::f8_e4m3 && !is_matrix)
      fail(ErrorCode::unsupported, "{}: {}: expected an FP8 matrix, found {} dimensions",
           checkpoint_.file_of(name).string(), name, tensor.shape.size());
    const WeightRole role = role_of(name);
    const bool kept = !is_matrix || role == WeightRole::key_value;
    Item item{{&tensor, nullptr}, kept ? WeightFormat::as_stored : format_of(role, wanted_)};
    if (is_matrix) item.weight = stored_weight(checkpoint_, tensor);
    if (item.format == WeightFormat::as_stored) {
      // FP8 scales have no place in the new config, and rounding FP8 once more would cost accuracy.
      layouts_.push_back({name, item.weight.scale ? DType::f32 : tensor.dtype, tensor.shape});
    } else {
      const int bits = num_bits(item.format);
      const int64_t rows = tensor.shape[0], cols = tensor.shape[1], group = group_of(item.format);
      layouts_.push_back({name + "_packed", DType::i32, {rows, packed_words(cols, bits)}});
      layouts_.push_back({name + "_scale", DType::f32, {rows, (cols + group - 1) / group}});
      layouts_.push_back({name + "_shape", DType::i64, {2}});
    }
    items_.push_back(item);
  }

  static int num_bits(WeightFormat format) { return format == WeightFormat::int8 ? 8 : 4; }
  static int64_t group_of(WeightFormat format) {
    return format == WeightFormat::int8 ? kInt8WeightGroup : kInt4WeightGroup;
  }
  static size_t bytes_of(const StoredWeight& weight) {
    return weight.values->num_bytes() + (weight.scale ? weight.scale->num_bytes() : 0);
  }

  void write_kept(SafetensorsWriter& writer, const StoredWeight& weight, Tally& tally) {
    const TensorView& tensor = *weight.values;
    if (!weight.scale) {
      writer.write(tensor.name, 0, tensor.data, tensor.num_bytes());
      tally.kind.bytes_after += tensor.num_bytes();
      return;
    }
    const auto cols = static_cast<size_t>(weight.cols());
    for_each_slab(weight, [&](int64_t first, int64_t count) {
      std::vector<float> values(static_cast<size_t>(count) * cols);
      pool_.parallel_for(count, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) weight.read_row(first + r, values.data() + r * cols);
      });
      writer.write(tensor.name, static_cast<size_t>(first) * cols * 4, values.data(), values.size() * 4);
      tally.kind.bytes_after += values.size() * 4;
    });
  }

  void write_quantised(SafetensorsWriter& writer, const Item& item, Tally& tally) {
    const StoredWeight& weight = item.weight;
    const std::string& name = weight.values->name;
    const int bits = num_bits(item.format);
    const int64_t cols = weight.cols(), row_words = packed_words(cols, bits);
    const int64_t groups = (cols + group_of(item.format) - 1) / group_of(item.format);
    for_each_slab(weight, [&](int64_t first, int64_t count) {
      std::vector<uint32_t> words(static_cast<size_t>(count * row_words));
      std::vector<float> scales(static_cast<size_t>(count * groups));
      std::vector<RowError> errors(static_cast<size_t>(count));
      pool_.parallel_for(count, 1, [&](int64_t begin, int64_t end, int) {
        std::vector<float> row(static_cast<size_t>(cols));
        for (int64_t r = begin; r < end; ++r) {
          weight.read_row(first + r, row.data());
          errors[r] = quantise_row(row, bits, words.data() + r * row_words, scales.data() + r * groups);
        }
      });
      check_finite(scales, name, first, groups);
      writer.write(name + "_packed", static_cast<size_t>(first * row_words) * 4, words.data(),
                   words.size() * 4);
      writer.write(name + "_scale", static_cast<size_t>(first * groups) * 4, scales.data(),
                   scales.size() * 4);
      tally.kind.bytes_after += (words.size() + scales.size()) * 4;
      for (const RowError& error : errors) {
        tally.error.squares += error.squares;
        tally.error.squared_error += error.squared_error;
      }
    });
    const int64_t shape[] = {weight.rows(), cols};
    writer.write(name + "_shape", 0, shape, sizeof shape);
    tally.kind.bytes_after += sizeof shape;
  }

  // The quantiser answers NaN and infinity with a scale of NaN.
  void check_finite(const std::vector<float>& scales, const std::string& name, int64_t first,
                    int64_t groups) const {
    const auto bad = std::ranges::find_if(scales, [](float scale) { return std::isnan(scale); });
    if (bad != scales.end())
      fail(ErrorCode::unsupported, "{}: {}: row {}: expected finite weights, found a NaN or an infinity",
           checkpoint_.file_of(name).string(), name, first + (bad - scales.begin()) / groups);
  }

  template <class Body>
  static void for_each_slab(const StoredWeight& weight, const Body& body) {
    const int64_t step = std::max<int64_t>(1, kSlabElements / weight.cols());
    for (int64_t first = 0; first < weight.rows(); first += step)
      body(first, std::min(step, weight.rows() - first));
  }

  void report_progress(const StoredWeight& weight) {
    checkpoint_.release(*weight.values);
    done_bytes_ += bytes_of(weight);
    if (options_.progress)
      options_.progress(static_cast<int64_t>(done_bytes_), static_cast<int64_t>(checkpoint_.total_bytes()));
  }

  QuantizeReport report() const {
    QuantizeReport report{.bytes_before = checkpoint_.total_bytes()};
    for (const char* name : {"attention", "indexer", "experts", "MLP", "head", "kept"}) {
      const auto found = tallies_.find(name);
      if (found == tallies_.end()) continue;
      QuantizedKind kind = found->second.kind;
      const RowError& error = found->second.error;
      kind.kind = name;
      if (error.squares > 0) kind.relative_rms_error = std::sqrt(error.squared_error / error.squares);
      report.bytes_after += kind.bytes_after;
      report.kinds.push_back(std::move(kind));
    }
    return report;
  }

  fs::path directory_;
  const QuantizeOptions& options_;
  WeightFormat wanted_;
  Checkpoint checkpoint_;
  ThreadPool pool_;
  std::vector<Item> items_;
  std::vector<TensorLayout> layouts_;
  std::map<std::string, Tally> tallies_;
  size_t done_bytes_ = 0;
};

// Tokenizer, templates, the model card: whatever stands beside the weights.
void copy_other_files(const fs::path& from, const fs::path& to) {
  std::set<fs::path> files;
  for (const auto& entry : fs::directory_iterator(from))
    if (entry.is_regular_file()) files.insert(entry.path());
  for (const fs::path& file : files) {
    const std::string name = file.filename().string();
    const bool is_weights = name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
    if (is_weights || is_foreign_format(file) || name.starts_with('.') || name == "config.json") continue;
    std::error_code error;
    fs::copy_file(file, to / name, error);
    if (error)
      fail(ErrorCode::io, "{}: cannot be copied to {}: {}", file.string(), to.string(), error.message());
  }
}

void check_space(const fs::path& folder, size_t needed) {
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  if (!error && space.available < needed)
    fail(ErrorCode::io, "{}: the quantised weights take {} MiB, the disk has {} MiB left",
         folder.parent_path().string(), needed >> 20, space.available >> 20);
}

void check_apart(const fs::path& model, const fs::path& out) {
  const fs::path from = fs::canonical(model), to = fs::weakly_canonical(fs::absolute(out));
  if (is_inside(to, from))
    fail(ErrorCode::invalid_argument, "{}: expected a directory outside the model, found one in {}",
         out.string(), from.string());
  if (is_inside(from, to))
    fail(ErrorCode::invalid_argument,
         "{}: expected a directory apart from the model, found one that holds {}", out.string(),
         from.string());
}

}  // namespace

QuantizeReport quantize_model(const std::string& model, const std::string& out,
                              const QuantizeOptions& options) {
  if (options.weights != "int8" && options.weights != "int4")
    fail(ErrorCode::invalid_argument, "weights: expected int8 or int4, found {}", options.weights);
  const fs::path directory = resolve_model(model);
  const ModelConfig config = load_model_config(directory);
  if (!config.packed_schemes.empty())
    fail(ErrorCode::unsupported,
         "{}: quantization_config: expected weights not quantised before, or FP8, found {}",
         (directory / "config.json").string(), config.weights_dtype);
  try {
    check_apart(directory, out);
    NewDirectory written(out, options.replace);
    Quantizer quantizer(directory, options);
    check_space(written.path(), quantizer.bytes_after());
    const QuantizeReport report = quantizer.write(written.path());
    Json json = read_json_file(directory / "config.json");
    json["quantization_config"] =
        quantization_config(weight_format_of(options.weights), quantizer.kept_modules());
    write_text_file(written.path() / "config.json", json.dump(2) + "\n");
    copy_other_files(directory, written.path());
    written.commit();
    return report;
  } catch (const fs::filesystem_error& error) {
    fail(ErrorCode::io, "{}: {}", out, error.code().message());
  }
}

}  // namespace indexshare
