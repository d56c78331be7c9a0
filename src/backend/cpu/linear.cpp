// SPDX-License-Identifier: Apache-2.0
// y[row, o] = sum_i x[row, i] * W[o, i] for independent products. Work: panels x row blocks in one list over
// all products, cut into shares of equal cost; the kernels of a share are in linear_kernels.h.
#include <algorithm>
#include <optional>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/linear_kernels.h"
#include "base/check.h"

namespace indexshare {

namespace {

constexpr int64_t kWorthAThread =
    2'000'000;  // f32 multiply-adds; waking a worker costs some tens of microseconds

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

int64_t largest_block(const PackedMatrix& weight) {
  switch (weight.arithmetic()) {
    case ProductArithmetic::f32:
      return kFloatShareRows;
    case ProductArithmetic::bf16:
      return kTileHeldBytes / (2 * std::min(round_up(weight.in_dim(), 128), kTileDepth)) / 32 * 32;
    default:
      return kIntegerShareRows;
  }
}

// Row blocks of equal size: whole register tiles of every path, whole blocks of converted rows.
int64_t row_block_of(const Product& p) {
  const int64_t limit = largest_block(*p.weight), blocks = (p.num_rows + limit - 1) / limit;
  const bool tiles = p.weight->arithmetic() == ProductArithmetic::bf16;
  return round_up((p.num_rows + blocks - 1) / blocks, tiles ? 32 : kRowsOfBlock);
}

// Cost of one panel for `rows` rows: f32 multiply-adds, or as long as the tile products that take their time,
// but never less than reading the weights takes.
int64_t panel_cost(const Product& p, int64_t rows) {
  constexpr int64_t kTileGain = 16;  // bf16 products on tiles while one f32 multiply-add is done, some
  const bool tiles = p.weight->arithmetic() == ProductArithmetic::bf16;
  return p.weight->in_dim() * std::max<int64_t>(tiles ? rows / kTileGain : rows, 8);
}

// Products of the same x side by side, block by block: what is held of x serves all of them.
template <class Visit>
void for_each_row_block(std::span<const Product> products, const Visit& visit) {
  for (size_t first = 0, last = 0; first < products.size(); first = last) {
    while (last < products.size() && same_x(products[first], products[last])) ++last;
    const int64_t num_rows = products[first].num_rows,
                  block = num_rows > 0 ? row_block_of(products[first]) : 1;
    for (int64_t row = 0; row < num_rows; row += block)
      for (size_t n = first; n < last; ++n) visit(products[n], row, std::min(block, num_rows - row));
  }
}

ShareKernel kernel_of(const Product& p, const KernelPath& path) {
  switch (p.weight->arithmetic()) {
    case ProductArithmetic::f32:
      return float_share_kernel(path.table_index);
    case ProductArithmetic::bf16:
      return amx::multiply_share;
    default:
      return integer_share_kernel(path.table_index);
  }
}

// Into the second cache.
void fetch(const void* from, int64_t num_bytes) {
  for (int64_t i = 0; i < num_bytes; i += 64)
    __builtin_prefetch(static_cast<const std::byte*>(from) + i, /*write=*/0, /*locality=*/2);
}

}  // namespace

void CpuBackend::multiply(std::span<Product> products) {
  int64_t total = 0;
  for_each_row_block(products, [&](const Product& p, int64_t, int64_t rows) {
    total += panel_cost(p, rows) * p.weight->num_panels();
  });
  if (total == 0) return;
  convert_activations(products);
  const int64_t shares = std::clamp<int64_t>(total / (kWorthAThread / kPanelWidth), 1, pool_.size());
  const auto run_share = [&](int64_t index, int worker) {
    const int64_t low = total * index / shares, high = total * (index + 1) / shares;
    std::byte* scratch = worker_scratch_[static_cast<size_t>(worker)].bytes(kShareScratchBytes);
    HeldRows held;
    int64_t start = 0;
    std::optional<ProductShare> waiting;  // until it is known what this worker reads next
    for_each_row_block(products, [&](const Product& p, int64_t row, int64_t rows) {
      const int64_t cost = panel_cost(p, rows), panels = p.weight->num_panels();
      const auto first_panel = [&](int64_t at) {
        return std::clamp<int64_t>((at - start + cost - 1) / cost, 0, panels);
      };
      const int64_t begin = low <= start ? 0 : first_panel(low), end = high <= start ? 0 : first_panel(high);
      start += cost * panels;
      if (begin >= end) return;
      const std::byte* weights = p.weight->panels() + static_cast<size_t>(begin) * p.weight->panel_bytes();
      if (waiting) {
        waiting->next = weights;
        if (rows == 1) fetch(p.x_row(row), p.weight->in_dim() * 4);
        kernel_of(*waiting->product, path_)(*waiting);
      } else {
        fetch(weights, kFetchLater);
      }
      waiting = {&p, row, rows, begin, end, scratch, &held};
    });
    if (waiting) kernel_of(*waiting->product, path_)(*waiting);
  };
  parallel(shares, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t index = begin; index < end; ++index) run_share(index, worker);
  });
}

void CpuBackend::linear(std::span<const LinearArgs> products) {
  products_.clear();
  for (const LinearArgs& args : products) {
    const auto* weight = dynamic_cast<const PackedMatrix*>(args.weight);
    ENSURE(weight != nullptr, "linear: the weight is a lookup table or another backend's");
    ENSURE(args.x_stride >= weight->in_dim() || args.num_rows <= 1, "linear: x_stride {} for in_dim {}",
           args.x_stride, weight->in_dim());
    ENSURE(args.y_stride >= weight->out_dim() || args.num_rows <= 1, "linear: y_stride {} for out_dim {}",
           args.y_stride, weight->out_dim());
    products_.push_back({args.x, args.x_stride, nullptr, weight, args.y, args.y_stride, args.num_rows});
  }
  multiply(products_);
}

}  // namespace indexshare
