// SPDX-License-Identifier: Apache-2.0
#include <fstream>

#include "backend/harness.h"
#include "indexshare/error.h"

namespace indexshare {
namespace {

ErrorCode code_of(const std::string& name, int threads) {
  try {
    make_backend(name, threads);
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << name << " was made";
  return ErrorCode::internal;
}

TEST(MakeBackend, UnknownNameListsTheKnownOnes) {
  try {
    make_backend("gpu", 1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    for (const char* word : {"reference", "cpu", "cuda", "\"gpu\""})
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
  }
}

TEST(MakeBackend, RefusesWhatItCannotMake) {
  EXPECT_EQ(code_of("", 1), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of("reference", -1), ErrorCode::invalid_argument);
  EXPECT_EQ(code_of("cuda", 0), ErrorCode::device);
}

class AnyBackend : public OpTest {};
INSTANTIATE_FOR_BACKENDS(AnyBackend);

TEST_P(AnyBackend, SaysWhichItIs) {
  EXPECT_EQ(backend->description().rfind(GetParam(), 0), 0u) << backend->description();
}

TEST_P(AnyBackend, BuffersAreZeroedAndWritable) {
  for (size_t num_bytes : {size_t{1}, size_t{4097}, size_t{10'000'000}}) {
    const auto buffer = backend->allocate(num_bytes);
    ASSERT_EQ(buffer->num_bytes(), num_bytes);
    auto* bytes = static_cast<unsigned char*>(buffer->data());
    for (size_t i = 0; i < num_bytes; ++i) ASSERT_EQ(bytes[i], 0);
    bytes[num_bytes - 1] = 7;
  }
  EXPECT_EQ(backend->allocate(0)->num_bytes(), 0u);
}

int64_t resident_bytes() {
  int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * 4096;
}

TEST_P(AnyBackend, UntouchedMemoryCostsNothing) {
  const int64_t before = resident_bytes();
  const auto buffer = backend->allocate(size_t{32} << 30);
  static_cast<char*>(buffer->data())[size_t{31} << 30] = 1;
  EXPECT_LT(resident_bytes() - before, int64_t{64} << 20);
}

TEST_P(AnyBackend, MoreMemoryThanAddressesIsRefused) {
  try {
    backend->allocate(size_t{1} << 60);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::out_of_memory);
  }
}

TEST_P(AnyBackend, PagesHoldTheirRows) {
  for (RowFormat format : {RowFormat::f32, RowFormat::bf16, RowFormat::int8})
    for (int64_t row_dim : {1, 13, 128, 576})
      for (int64_t page_size : supported_page_sizes(*backend, format, row_dim)) {
        const CachePages rows{nullptr, format, page_size, row_dim};
        const auto least = static_cast<size_t>(page_size * row_dim *
                                               (format == RowFormat::f32    ? 4
                                                : format == RowFormat::bf16 ? 2
                                                                            : 1));
        EXPECT_GE(backend->latent_page_bytes(rows), least);
        EXPECT_GE(backend->index_key_page_bytes(rows), least);
      }
  EXPECT_FALSE(supported_page_sizes(*backend, RowFormat::bf16, 128, {64}).empty())
      << "the engine's page size";
}

}  // namespace
}  // namespace indexshare
