// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "backend/quantise.h"
#include "base/check.h"
#include "cache/row_formats.h"
#include "engine/engine_state.h"
#include "engine/memory.h"
#include "model/weight_formats.h"

namespace indexshare {

namespace {

constexpr int64_t kPageSize = 64;  // positions a page; the GPU kernels of this field use the same

void log(const EngineOptions& options, const std::string& line) {
  if (options.log) options.log(line);
}

// Before anything is loaded: what the file holds, quantised as it will be.
size_t expected_bytes(const Checkpoint& checkpoint, WeightFormat format) {
  size_t sum = 0;
  for (const TensorView& tensor : checkpoint.tensors()) {
    const WeightFormat loaded = format_of(role_of(tensor.name), format);
    const auto elements = static_cast<size_t>(tensor.num_elements());
    sum += loaded == WeightFormat::as_stored ? tensor.num_bytes()
           : loaded == WeightFormat::int8    ? elements + elements / kInt8WeightGroup * 4
                                             : elements / 2 + elements / kInt4WeightGroup * 4;
  }
  return sum;
}

// A tensor's own message, that it is missing, would not say which option asked for it.
void expect_every_indexer(const ModelConfig& config, const Checkpoint& checkpoint) {
  for (int layer = 0; layer < config.num_layers; ++layer)
    if (!has_indexer(checkpoint, layer))
      fail(ErrorCode::unsupported,
           "{}: --plan every_layer: expected an indexer in every layer, found none in layer {} (bench alone "
           "borrows the nearest one before, to measure costs)",
           checkpoint.directory().string(), layer);
}

Weights load(const ModelConfig& config, const std::filesystem::path& directory, Backend& backend,
             const EngineOptions& options) {
  WeightOptions weight_options{
      .format = options.weights == "auto" ? WeightFormat::as_stored : weight_format_of(options.weights),
      .activation_bits = options.activation_bits,
      .borrow_indexers = options.plan == PlanChoice::every_layer && options.allow_cost_only,
      .mtp = options.draft_tokens > 0,
      .check_tensors = options.check_tensors};
  if (options.load_progress)
    weight_options.progress = [&](size_t done, size_t total) {
      options.load_progress(static_cast<int64_t>(done), static_cast<int64_t>(total));
    };
  auto checkpoint = std::make_shared<const Checkpoint>(Checkpoint::open(directory));
  if (options.plan == PlanChoice::every_layer && config.indexer.topk > 0 && !options.allow_cost_only)
    expect_every_indexer(config, *checkpoint);
  const size_t available = available_memory_bytes(),
               needed = expected_bytes(*checkpoint, weight_options.format);
  if (needed > available)
    fail(ErrorCode::out_of_memory, "{}: the weights take {} MiB, the machine has {} MiB available{}",
         directory.string(), needed >> 20, available >> 20,
         options.weights == "auto" ? " (weights int8 or int4 take less)" : "");
  return load_weights(config, std::move(checkpoint), backend, weight_options);
}

}  // namespace

std::unique_ptr<Engine> Engine::load(const std::string& model, const EngineOptions& options) {
  validate(options);
  const std::filesystem::path directory = resolve_model(model);
  ModelConfig config = load_model_config(directory, options.hf_overrides);
  for (const std::string& note : config.notes) log(options, note);
  if (options.plan == PlanChoice::every_layer && config.indexer.topk > 0)
    config.plan = SharePlan::every_layer(config.num_layers);

  auto state = std::make_unique<State>();
  State& s = *state;
  s.options = options;
  if (options.draft_tokens > 0 && options.draft_index_share && !config.share_draft_index)
    log(options,
        "drafts find a selection each: config.json has no index_share_for_mtp_iteration that says true");
  s.load_tokenizer(directory, config.vocab_size);
  s.generation = load_generation_config(directory, config.vocab_size);
  for (const std::string& note : s.generation.notes) log(options, note);
  s.backend = make_backend(options.backend, options.threads);
  if (!s.backend->note().empty()) log(options, s.backend->note());

  if (options.draft_tokens > 0 && config.num_mtp_layers == 0)
    fail(ErrorCode::invalid_argument,
         "draft_tokens: expected 0, as {} has no MTP layer (num_nextn_predict_layers), found {}",
         directory.string(), options.draft_tokens);
  const int64_t ctx_size = options.ctx_size > 0 ? options.ctx_size : config.max_positions;
  if (ctx_size > config.max_positions)
    log(options,
        fmt::format("ctx_size is {}, but a sequence ends at config.json's max_position_embeddings, {}",
                    ctx_size, config.max_positions));
  // One pass takes the rows of everyone who decodes, drafts included: what is drafted and drawn then never
  // depends on batch mates.
  const int64_t rows_each = 1 + options.draft_tokens;
  const int64_t max_running = std::min(options.max_sequences, options.chunk_size / rows_each);
  const ModelLimits limits{.max_rows = options.chunk_size,
                           .max_logits_rows = max_running * rows_each,
                           .max_positions = std::min(ctx_size, config.max_positions),
                           .max_draft_rows = options.chunk_size + max_running};
  Weights weights = indexshare::load(config, directory, *s.backend, options);
  for (const std::string& note : weights.notes) log(options, note);
  const bool exact = weights.checkpoint->get("model.embed_tokens.weight").dtype == DType::f32;
  const RowFormat latents = choose_latent_format(options.kv_cache_dtype, exact);
  const RowFormat index_keys = choose_index_key_format(options.index_cache_dtype, latents);
  s.model =
      std::make_unique<Model>(std::move(config), std::move(weights), *s.backend, options.attention, limits);
  s.cache = std::make_unique<PagedCache>(*s.backend,
                                         s.model->cache_config(latents, index_keys, kPageSize, ctx_size));
  for (auto* counts : {&s.drafts.proposed, &s.drafts.accepted})
    counts->resize(static_cast<size_t>(options.draft_tokens));
  s.scheduler.emplace(SchedulerLimits{.max_rows = options.chunk_size, .max_running = max_running});
  s.fill_info(directory);
  return std::unique_ptr<Engine>(new Engine(std::move(state)));
}

// Not every checkpoint has a usable one, and logits and costs need none: what is wrong is said to who asks
// for it.
void Engine::State::load_tokenizer(const std::filesystem::path& directory, int64_t vocab_size) {
  const std::filesystem::path path = directory / "tokenizer.json";
  if (!std::filesystem::exists(path)) {
    tokenizer_problem = fmt::format("{}: no such file", path.string());
    return;
  }
  Tokenizer loaded = Tokenizer::load(directory);
  if (loaded.vocab_size() <= vocab_size) {
    tokenizer = std::move(loaded);
  } else {
    tokenizer_problem = fmt::format("{}: expected ids below the model's vocab_size {}, found {}",
                                    path.string(), vocab_size, loaded.vocab_size() - 1);
    log(options, tokenizer_problem);
  }
}

void Engine::State::fill_info(const std::filesystem::path& directory) {
  const ModelConfig& config = model->config();
  const CacheBytesPerToken bytes = cache_bytes_per_token(cache->config(), *backend);
  info.directory = directory.string();
  info.family = config.family;
  info.backend = backend->description();
  info.num_layers = config.num_layers;
  if (cache->config().num_index_slots > 0) info.full_layers = config.plan.full_layers();
  info.source = config.plan.source;
  info.vocab_size = config.vocab_size;
  info.max_positions = config.max_positions;
  info.ctx_size = cache->config().num_positions;
  info.index_topk = config.indexer.topk;
  info.eos_token_ids = config.eos_token_ids;
  for (int32_t id : generation.eos_token_ids)
    if (std::ranges::find(info.eos_token_ids, id) == info.eos_token_ids.end())
      info.eos_token_ids.push_back(id);
  info.kv_cache_dtype = row_format_name(cache->config().latent_format);
  info.index_cache_dtype = row_format_name(cache->config().index_key_format);
  const auto& [weights, format] = model->weights().main_format();
  info.weights = weights;
  info.activation_bits = format.activation_bits;
  info.weight_bytes = model->weights().num_bytes();
  info.weight_bytes_by_format = model->weights().bytes_by_format;
  info.latent_bytes_per_token = bytes.latents;
  info.index_key_bytes_per_token = bytes.index_keys;
  info.draft_tokens = options.draft_tokens;
  info.draft_index_share = options.draft_tokens > 0 && options.draft_index_share && config.share_draft_index;
  info.cost_only = model->weights().cost_only;
}

Engine::Engine(std::unique_ptr<State> state) : state_(std::move(state)) {}
Engine::~Engine() = default;

const ModelInfo& Engine::info() const { return state_->info; }

const Tokenizer& Engine::tokenizer() const {
  if (!state_->tokenizer) throw Error(ErrorCode::unsupported, state_->tokenizer_problem);
  return *state_->tokenizer;
}

SamplingOptions Engine::default_sampling() const { return state_->generation.sampling; }

namespace {

Counters::Flops flops_of(const ForwardCounters& c) {
  return {.projections = c.projections,
          .indexer_projections = c.indexer_projections,
          .index_scores = c.index_scores,
          .attention = c.attention,
          .mlp = c.mlp,
          .head = c.head};
}

Counters::Seconds seconds_of(const ForwardCounters& c) {
  const ForwardCounters::Seconds& s = c.seconds;
  return {
      .projections = s.projections,
      .indexer_projections = s.indexer_projections,
      .index_selection = s.index_selection,
      .attention = s.attention,
      .mlp = s.mlp,
      .head = s.head,
      .other = s.forward - s.projections - s.indexer_projections - s.index_selection - s.attention - s.mlp};
}

}  // namespace

Counters Engine::counters() const {
  const ForwardCounters& target = state_->model->counters();
  const ForwardCounters& mtp = state_->model->draft_counters();
  return {.tokens = target.tokens,
          .forward_passes = target.forward_passes,
          .indexer_passes = target.indexer_passes,
          .flops = flops_of(target),
          .seconds = seconds_of(target),
          .drafting = {.statistics = state_->drafts,
                       .rows = mtp.tokens,
                       .passes = mtp.forward_passes,
                       .indexer_passes = mtp.indexer_passes,
                       .flops = flops_of(mtp),
                       .seconds = seconds_of(mtp)}};
}

}  // namespace indexshare
