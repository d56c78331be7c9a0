// SPDX-License-Identifier: Apache-2.0
// The token loop allocates nothing: once every buffer has its size, forward passes leave the heap alone.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "cache/paged_cache.h"
#include "checkpoint/checkpoint.h"
#include "model/model.h"

namespace {
std::atomic<int64_t> allocations = 0;

void* counted(size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes ? bytes : 1)) return memory;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(size_t bytes) { return counted(bytes); }
void* operator new[](size_t bytes) { return counted(bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

namespace indexshare {
namespace {

constexpr int64_t kPrompt = 512, kSteps = 8;

struct Formats {
  RowFormat latents, index_keys;
  WeightFormat weights;
};

class AllocationTest : public ::testing::TestWithParam<Formats> {};

// One sequence's rows [position, position + count) with made-up tokens.
void set_rows(Batch& batch, const CachedSequence& sequence, int64_t position, int64_t count) {
  batch.tokens.clear();
  batch.positions.clear();
  batch.sequences.clear();
  for (int64_t i = 0; i < count; ++i) {
    batch.tokens.push_back(static_cast<int32_t>((position + i) * 37 % 251));
    batch.positions.push_back(position + i);
  }
  batch.sequences.push_back({0, count, position, sequence.pages.data()});
}

TEST_P(AllocationTest, ForwardPassesAllocateNothingOnceWarm) {
  const std::string directory = INDEXSHARE_BINARY_DIR "/fixtures/tiny-glm-bf16";
  const ModelConfig config = load_model_config(directory, "");
  const auto backend = make_backend("cpu", 2);
  auto checkpoint = std::make_shared<const Checkpoint>(Checkpoint::open(directory));
  Weights weights = load_weights(config, checkpoint, *backend, {.format = GetParam().weights});
  Model model(config, std::move(weights), *backend, AttentionMode::sparse,
              {.max_rows = kPrompt, .max_logits_rows = 1, .max_positions = 4096});
  PagedCache cache(*backend, model.cache_config(GetParam().latents, GetParam().index_keys, 64, 4096));
  CachedSequence sequence;
  Batch batch;
  const int64_t first_row[] = {0};
  const auto run = [&](int64_t count) {
    cache.grow(sequence, sequence.length + count);
    set_rows(batch, sequence, sequence.length - count, count);
    const int64_t before = allocations;
    model.forward(batch, cache);
    model.logits(first_row);
    return allocations - before;
  };
  run(kPrompt);
  run(kPrompt);
  run(1);
  EXPECT_EQ(run(kPrompt), 0);
  for (int64_t step = 0; step < kSteps; ++step) EXPECT_EQ(run(1), 0);
}

INSTANTIATE_TEST_SUITE_P(Formats, AllocationTest,
                         ::testing::Values(Formats{RowFormat::f32, RowFormat::f32, WeightFormat::as_stored},
                                           Formats{RowFormat::bf16, RowFormat::bf16, WeightFormat::as_stored},
                                           Formats{RowFormat::int8, RowFormat::int8, WeightFormat::int8}));

}  // namespace
}  // namespace indexshare
