// SPDX-License-Identifier: Apache-2.0
// group_bench: what sharing saves in one group of four layers, at GLM-5.2's own geometry, measured beside
// what counting predicts. Both sides run for real: shared = one index selection, four attentions over it;
// every layer = four selections over four caches of keys, each with its attention. Projections are left out:
// both sides have the same but for the indexer's.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "base/thread_pool.h"
#include "ceilings.h"
#include "op_cases.h"
#include "random_data.h"

namespace indexshare {
namespace {

constexpr int kLayers = 4;

struct Options {
  std::string backend = "cpu", shape = "glm";
  std::vector<int64_t> contexts = {32768, 131072, 1048576}, rows = {1, 64};
  RowFormat latents = RowFormat::bf16, keys = RowFormat::int8;
  int threads = 0, repeats = 5;
  double seconds = 1;
};

double quantile(std::vector<double> values, double share) {
  const auto place = static_cast<std::ptrdiff_t>(share * static_cast<double>(values.size() - 1) + 0.5);
  std::nth_element(values.begin(), values.begin() + place, values.end());
  return values[static_cast<size_t>(place)];
}

double median(std::vector<double> values) { return quantile(std::move(values), 0.5); }

/// Four layers' caches at one context, and one batch of rows at its end.
class Group {
 public:
  Group(Backend& backend, const ModelShape& shape, const Options& o, int64_t context)
      : backend_(backend), shape_(shape), context_(context) {
    using Kind = RandomCache::Kind;
    for (uint64_t layer = 0; layer < kLayers; ++layer) {
      keys_.push_back(std::make_unique<RandomCache>(backend, Kind::index_keys, o.keys, shape.index_dim, 0,
                                                    context, 100 + layer));
      latents_.push_back(std::make_unique<RandomCache>(backend, Kind::latents, o.latents,
                                                       shape.kv_lora + shape.rope, shape.rope, context, 200));
    }
  }

  void set_rows(int64_t rows) {
    rows_ = rows;
    width_ = selection_width({}, shape_.topk, context_);
    queries_ = random_floats(rows * shape_.index_heads * shape_.index_dim, 3);
    weights_ = random_floats(rows * shape_.index_heads, 4);
    latent_queries_ = random_floats(rows * shape_.num_heads * shape_.kv_lora, 5);
    rope_queries_ = random_floats(rows * shape_.num_heads * shape_.rope, 6);
    output_.resize(latent_queries_.size());
    positions_.resize(static_cast<size_t>(rows * width_));
    slots_.resize(positions_.size());
    counts_.resize(static_cast<size_t>(rows));
  }

  void select(int layer) {
    const RandomCache& keys = *keys_[static_cast<size_t>(layer)];
    const SequenceRows s = rows_of(keys);
    backend_.index_select({.queries = queries_.data(),
                           .head_weights = weights_.data(),
                           .keys = keys.pages,
                           .sequences = {&s, 1},
                           .num_rows = rows_,
                           .num_heads = shape_.index_heads,
                           .head_dim = shape_.index_dim,
                           .topk = shape_.topk,
                           .width = width_,
                           .positions = positions_.data(),
                           .counts = counts_.data()});
    const SequenceRows l = rows_of(*latents_[0]);
    backend_.translate({.positions = positions_.data(),
                        .counts = counts_.data(),
                        .width = width_,
                        .page_size = RandomCache::kPageSize,
                        .sequences = {&l, 1},
                        .slots = slots_.data()});
  }

  void attend(int layer) {
    const RandomCache& latents = *latents_[static_cast<size_t>(layer)];
    const SequenceRows s = rows_of(latents);
    backend_.sparse_attention({.query_latent = latent_queries_.data(),
                               .query_rope = rope_queries_.data(),
                               .rope_row_stride = shape_.num_heads * shape_.rope,
                               .rope_head_stride = shape_.rope,
                               .cache = latents.pages,
                               .sequences = {&s, 1},
                               .slots = slots_.data(),
                               .counts = counts_.data(),
                               .width = width_,
                               .num_rows = rows_,
                               .num_heads = shape_.num_heads,
                               .latent_dim = shape_.kv_lora,
                               .rope_dim = shape_.rope,
                               .scale = 0.0625f,
                               .output = output_.data()});
  }

  // Bytes (decode) or operations (prefill) of one selection and of one attention.
  double selection_work() const {
    const auto scores = static_cast<double>(context_ - rows_ / 2);
    return rows_ == 1 ? scores * keys_[0]->bytes_per_row
                      : 2.0 * static_cast<double>(rows_ * shape_.index_heads * shape_.index_dim) * scores;
  }
  double attention_work() const {
    const auto attended = static_cast<double>(rows_ * std::min(shape_.topk, context_));
    return rows_ == 1
               ? attended * latents_[0]->bytes_per_row
               : 2.0 * attended * static_cast<double>(shape_.num_heads * (2 * shape_.kv_lora + shape_.rope));
  }

 private:
  SequenceRows rows_of(const RandomCache& cache) const {
    return {0, rows_, context_ - rows_, cache.table.data()};
  }

  Backend& backend_;
  const ModelShape& shape_;
  int64_t context_, rows_ = 0, width_ = 0;
  std::vector<std::unique_ptr<RandomCache>> keys_, latents_;
  std::vector<float> queries_, weights_, latent_queries_, rope_queries_, output_;
  std::vector<int32_t> positions_, slots_, counts_;
};

template <class Run>
double time_of(const Run& run) {
  const double begin = seconds(Clock::wall);
  run();
  return seconds(Clock::wall) - begin;
}

// At least o.repeats times and o.seconds: a decode step takes two milliseconds, and three of them tell
// little.
void measure(Group& group, int64_t context, int64_t rows, const Options& o) {
  group.set_rows(rows);
  group.select(0);
  group.attend(0);
  std::vector<double> shared, every, selection, saved_ratio;
  const double begin = seconds(Clock::wall);
  for (int n = 0; n < o.repeats || seconds(Clock::wall) - begin < o.seconds;
       ++n) {  // in turn: a neighbour's load falls on all
    shared.push_back(time_of([&] {
      group.select(0);
      for (int layer = 0; layer < kLayers; ++layer) group.attend(layer);
    }));
    double selecting = 0;
    every.push_back(time_of([&] {
      for (int layer = 0; layer < kLayers; ++layer) {
        selecting += time_of([&] { group.select(layer); });
        group.attend(layer);
      }
    }));
    selection.push_back(selecting / kLayers);
    saved_ratio.push_back((every.back() - shared.back()) / (3 * selection.back()));
  }
  const double work_shared = group.selection_work() + kLayers * group.attention_work();
  const double work_every = kLayers * (group.selection_work() + group.attention_work());
  fmt::print("{:>9} {:>5} {:>12.3f} {:>12.3f} {:>12.3f} {:>9.2f} {:>9.2f} {:>14.3f} ({:.2f}-{:.2f})\n",
             context, rows, 1e3 * median(selection), 1e3 * median(shared), 1e3 * median(every),
             median(every) / median(shared), work_every / work_shared, median(saved_ratio),
             quantile(saved_ratio, 0.25), quantile(saved_ratio, 0.75));
  std::fflush(stdout);
}

int run(int argc, char** argv) {
  Options o;
  CLI::App app("Times one share group of four layers against four layers with an indexer each");
  app.add_option("--backend", o.backend, "cpu or reference");
  app.add_option("--shape", o.shape, "glm, bench-8l or indexshare-tiny");
  app.add_option("--context", o.contexts, "numbers of cached keys");
  app.add_option("--rows", o.rows, "query rows: 1 is a decode step");
  app.add_option("--cache", o.latents, "format of cached latents")
      ->transform(CLI::CheckedTransformer(kRowFormats));
  app.add_option("--keys", o.keys, "format of cached index keys")
      ->transform(CLI::CheckedTransformer(kRowFormats));
  app.add_option("--threads", o.threads, "0 = what the process may use");
  app.add_option("--repeats", o.repeats, "least times each is measured");
  app.add_option("--seconds", o.seconds, "least time of a case");
  CLI11_PARSE(app, argc, argv);
  const auto backend = make_backend(o.backend, o.threads);
  const ModelShape shape = model_shape(o.shape);
  fmt::print("{}; {} latents, {} keys; times in ms, medians; in brackets the middle half\n",
             backend->description(), row_format_name(o.latents), row_format_name(o.keys));
  fmt::print("{:>9} {:>5} {:>12} {:>12} {:>12} {:>9} {:>9} {:>14}\n", "context", "rows", "selection",
             "shared", "every layer", "ratio", "counted", "saved / 3 sel.");
  for (int64_t context : o.contexts) {
    Group group(*backend, shape, o, context);
    for (int64_t rows : o.rows) measure(group, context, rows, o);
  }
  return 0;
}

}  // namespace
}  // namespace indexshare

int main(int argc, char** argv) {
  try {
    return indexshare::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "group_bench: {}\n", error.what());
    return 1;
  }
}
