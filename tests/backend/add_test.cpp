// SPDX-License-Identifier: Apache-2.0
#include "backend/harness.h"

namespace indexshare {
namespace {

class Add : public OpTest {};
INSTANTIATE_FOR_BACKENDS(Add);

TEST_P(Add, OneRoundingPerElement) {
  for (int64_t count : {0, 1, 7, 8, 15, 16, 17, 72, 100000}) {
    Rng rng(count);
    const std::vector<float> before = rng.uniforms(count + 3), y = rng.uniforms(count + 3, -1e-3f, 1e-3f);
    std::vector<float> x = before;
    backend->add({x.data(), y.data(), count});
    for (int64_t i = 0; i < count; ++i) ASSERT_EQ(x[i], before[i] + y[i]) << i << " of " << count;
    for (int64_t i = count; i < count + 3; ++i) ASSERT_EQ(x[i], before[i]) << "beyond the end";
  }
}

}  // namespace
}  // namespace indexshare
