// SPDX-License-Identifier: Apache-2.0
// y[row, o] = sum_i x[row, i] * W[o, i] for independent products. Work: panels x row blocks in one list over
// all products, cut into shares of equal cost; the kernels of a share are in linear_kernels.h.
#include <algorithm>

#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/linear_kernels.h"
#include "base/check.h"

namespace indexshare {

namespace {

constexpr int64_t kWorthAThread =
    2'000'000;  // f32 multiply-adds; waking a worker costs some tens of microseconds

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Row blocks of equal size: whole register tiles of every path, whole blocks of converted rows.
int64_t row_block_of(const Product& p, bool tiles) {
  const int parts = p.weight->activation_parts();
  const int64_t limit = parts == 0 ? kFloatShareRows : tiles ? kTileShareRows / parts : kIntegerShareRows;
  const int64_t blocks = (p.num_rows + limit - 1) / limit;
  return round_up((p.num_rows + blocks - 1) / blocks, parts == 0 ? 8 : kRowsOfBlock);
}

// Cost of one panel for `rows` rows: f32 multiply-adds, or as long as the tile products that take their time,
// but never less than reading the weights takes.
int64_t panel_cost(const Product& p, int64_t rows, bool tiles) {
  constexpr int64_t kTileGain = 32;  // int8 products while one f32 multiply-add is done, some
  const PackedMatrix& w = *p.weight;
  int64_t products = rows;
  if (w.activation_parts() > 0 && tiles)
    products = rows * w.activation_parts() * (is_integer(w.element()) ? 1 : 2) / kTileGain;
  return w.in_dim() * std::max<int64_t>(products, 8);
}

template <class Visit>
void for_each_row_block(std::span<const Product> products, bool tiles, const Visit& visit) {
  for (const Product& p : products) {
    const int64_t block = p.num_rows > 0 ? row_block_of(p, tiles) : 1;
    for (int64_t row = 0; row < p.num_rows; row += block) visit(p, row, std::min(block, p.num_rows - row));
  }
}

ShareKernel kernel_of(const Product& p, const KernelPath& path) {
  if (p.weight->activation_parts() == 0) return float_share_kernel(path.table_index);
  return path.tiles ? amx::multiply_share : integer_share_kernel(path.table_index);
}

}  // namespace

void CpuBackend::multiply(std::span<Product> products) {
  const bool tiles = path_.tiles;
  int64_t total = 0;
  for_each_row_block(products, tiles, [&](const Product& p, int64_t, int64_t rows) {
    total += panel_cost(p, rows, tiles) * p.weight->num_panels();
  });
  if (total == 0) return;
  convert_activations(products);
  const int64_t shares = std::clamp<int64_t>(total / (kWorthAThread / kPanelWidth), 1, pool_.size());
  const auto run_share = [&](int64_t index, int worker) {
    const int64_t low = total * index / shares, high = total * (index + 1) / shares;
    std::byte* scratch = worker_scratch_[static_cast<size_t>(worker)].bytes(kShareScratchBytes);
    int64_t start = 0;
    for_each_row_block(products, tiles, [&](const Product& p, int64_t row, int64_t rows) {
      const int64_t cost = panel_cost(p, rows, tiles), panels = p.weight->num_panels();
      const auto first_panel = [&](int64_t at) {
        return std::clamp<int64_t>((at - start + cost - 1) / cost, 0, panels);
      };
      const int64_t begin = low <= start ? 0 : first_panel(low), end = high <= start ? 0 : first_panel(high);
      if (begin < end) kernel_of(p, path_)({&p, row, rows, begin, end, scratch});
      start += cost * panels;
    });
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
