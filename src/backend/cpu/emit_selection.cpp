// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/emit_selection.h"

#include <algorithm>

#include "backend/fixed_pattern.h"
#include "base/check.h"

namespace indexshare {

namespace {

/// Writes sets in ascending position.
class Emitter {
 public:
  Emitter(const IndexSelectArgs& args, int64_t row)
      : args_(args), row_(row), out_(args.positions + row * args.width) {}

  void put(int32_t position) {
    ENSURE(count_ < args_.width, "more than {} positions selected for row {}", args_.width, row_);
    out_[count_++] = position;
  }
  void put_all(const int32_t* positions, int64_t count) {
    ENSURE(count_ + count <= args_.width, "more than {} positions selected for row {}", args_.width, row_);
    std::copy_n(positions, count, out_ + count_);
    count_ += count;
  }
  void finish() {
    std::fill(out_ + count_, out_ + args_.width, -1);
    args_.counts[row_] = static_cast<int32_t>(count_);
  }
  void reject() {
    finish();
    args_.counts[row_] = -1;
  }

 private:
  const IndexSelectArgs& args_;
  int64_t row_, count_ = 0;
  int32_t* out_;
};

}  // namespace

void emit_unscored(const IndexSelectArgs& args, int64_t row, int64_t t) {
  Emitter out(args, row);
  const auto put = [&](int32_t s) { out.put(s); };
  if (args.topk > 0) {
    for (int64_t s = 0; s <= t; ++s) put(static_cast<int32_t>(s));
  } else {
    FixedSet(args.pattern, t).for_each(put);
  }
  out.finish();
}

void emit_scored(const IndexSelectArgs& args, int64_t row, int64_t t, const Candidates& best) {
  Emitter out(args, row);
  if (best.has_nan) return out.reject();
  int64_t next = 0;
  if (args.pattern.active())
    FixedSet(args.pattern, t).for_each([&](int32_t fixed) {
      while (next < best.count && best.positions[next] < fixed) out.put(best.positions[next++]);
      if (next < best.count && best.positions[next] == fixed) ++next;
      out.put(fixed);
    });
  out.put_all(best.positions + next, best.count - next);
  out.finish();
}

}  // namespace indexshare
