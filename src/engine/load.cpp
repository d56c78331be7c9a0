// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "base/check.h"
#include "engine/engine_state.h"
#include "engine/memory.h"

namespace indexshare {

namespace {

constexpr int64_t kPageSize = 64;  // positions a page; the GPU kernels of this field use the same

void log(const EngineOptions& options, const std::string& line) {
  if (options.log) options.log(line);
}

// f32 checkpoints are kept exact by default; anything coarser gets bf16 rows, as every engine of this family
// has.
RowFormat choose_latent_format(const EngineOptions& options, const Checkpoint& checkpoint) {
  if (options.kv_cache_dtype != "auto") return row_format_of(options.kv_cache_dtype);
  return checkpoint.get("model.embed_tokens.weight").dtype == DType::f32 ? RowFormat::f32 : RowFormat::bf16;
}

// Index keys choose what is read and are not read themselves, so they bear coarser rounding than latents; the
// model family's own engines keep them in 8 bits.
RowFormat choose_index_key_format(const EngineOptions& options, RowFormat latents) {
  if (options.index_cache_dtype != "auto") return row_format_of(options.index_cache_dtype);
  return latents == RowFormat::f32 ? RowFormat::f32 : RowFormat::bf16;
}

Weights load(const ModelConfig& config, const std::filesystem::path& directory, Backend& backend,
             const EngineOptions& options) {
  WeightOptions weight_options{
      .borrow_indexers = options.plan == PlanChoice::every_layer && options.allow_cost_only,
      .check_tensors = options.check_tensors};
  if (options.load_progress)
    weight_options.progress = [&](size_t done, size_t total) {
      options.load_progress(static_cast<int64_t>(done), static_cast<int64_t>(total));
    };
  auto checkpoint = std::make_shared<const Checkpoint>(Checkpoint::open(directory));
  const size_t available = available_memory_bytes();
  if (checkpoint->total_bytes() > available)
    fail(ErrorCode::out_of_memory, "{}: the weights take {} MiB, the machine has {} MiB available",
         directory.string(), checkpoint->total_bytes() >> 20, available >> 20);
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
  s.load_tokenizer(directory, config.vocab_size);
  s.generation = load_generation_config(directory, config.vocab_size);
  for (const std::string& note : s.generation.notes) log(options, note);
  s.backend = make_backend(options.backend, options.threads);

  const int64_t ctx_size = options.ctx_size > 0 ? options.ctx_size : config.max_positions;
  const ModelLimits limits{.max_rows = options.chunk_size,
                           .max_logits_rows = std::min<int64_t>(options.max_sequences, options.chunk_size),
                           .max_positions = std::min(ctx_size, config.max_positions)};
  Weights weights = indexshare::load(config, directory, *s.backend, options);
  for (const std::string& note : weights.notes) log(options, note);
  const RowFormat latents = choose_latent_format(options, *weights.checkpoint);
  const RowFormat index_keys = choose_index_key_format(options, latents);
  s.model =
      std::make_unique<Model>(std::move(config), std::move(weights), *s.backend, options.attention, limits);
  s.cache = std::make_unique<PagedCache>(*s.backend,
                                         s.model->cache_config(latents, index_keys, kPageSize, ctx_size));
  s.scheduler.emplace(SchedulerLimits{.max_rows = options.chunk_size, .max_running = limits.max_logits_rows});
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
  info.weight_bytes = model->weights().checkpoint->total_bytes();
  info.latent_bytes_per_token = bytes.latents;
  info.index_key_bytes_per_token = bytes.index_keys;
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

Counters Engine::counters() const {
  const ForwardCounters& c = state_->model->counters();
  const ForwardCounters::Seconds& s = c.seconds;
  return {.tokens = c.tokens,
          .forward_passes = c.forward_passes,
          .indexer_passes = c.indexer_passes,
          .flops = {.projections = c.projections,
                    .indexer_projections = c.indexer_projections,
                    .index_scores = c.index_scores,
                    .attention = c.attention,
                    .mlp = c.mlp,
                    .head = c.head},
          .seconds = {.projections = s.projections,
                      .indexer_projections = s.indexer_projections,
                      .index_selection = s.index_selection,
                      .attention = s.attention,
                      .mlp = s.mlp,
                      .head = s.head,
                      .other = s.forward - s.projections - s.indexer_projections - s.index_selection -
                               s.attention - s.mlp}};
}

}  // namespace indexshare
