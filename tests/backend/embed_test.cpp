// SPDX-License-Identifier: Apache-2.0
#include "backend/harness.h"

namespace indexshare {
namespace {

class Embed : public OpTest {};
INSTANTIATE_FOR_BACKENDS(Embed);

TEST_P(Embed, CopiesTheTokensRows) {
  for (DType dtype : {DType::f32, DType::f16, DType::bf16})
    for (int64_t hidden : {1, 13, 72})
      for (bool lookup_only : {false, true}) {
        Rng rng(hidden);
        const HostMatrix weight(dtype, 50, hidden, rng);
        MatrixSource source = weight.source();
        source.lookup_only = lookup_only;
        const auto table = backend->load_matrix(source);
        const std::vector<int32_t> tokens{0, 49, 7, 7, 31};
        std::vector<float> y(tokens.size() * hidden + 1, 99.0f);
        backend->embed({tokens.data(), table.get(), y.data(), static_cast<int64_t>(tokens.size())});
        for (size_t row = 0; row < tokens.size(); ++row)
          for (int64_t i = 0; i < hidden; ++i)
            ASSERT_EQ(y[row * hidden + i], weight.at(tokens[row], i)) << dtype_name(dtype);
        EXPECT_EQ(y.back(), 99.0f);
      }
}

// Tied embeddings: one matrix serves embed() and linear().
TEST_P(Embed, TableStaysUsableForLinear) {
  Rng rng(1);
  const HostMatrix weight(DType::bf16, 40, 24, rng);
  const auto table = weight.load(*backend);
  const int32_t token = 3;
  std::vector<float> x(24), y(40);
  backend->embed({&token, table.get(), x.data(), 1});
  const LinearArgs args{x.data(), 24, table.get(), y.data(), 40, 1};
  backend->linear({&args, 1});
  double expected = 0;
  for (int i = 0; i < 24; ++i) expected += weight.at(3, i) * weight.at(3, i);
  EXPECT_NEAR(y[3], expected, 1e-5);
}

TEST_P(Embed, NoRows) {
  Rng rng(1);
  const auto table = HostMatrix(DType::f32, 4, 4, rng).load(*backend);
  backend->embed({nullptr, table.get(), nullptr, 0});
}

}  // namespace
}  // namespace indexshare
