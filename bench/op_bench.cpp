// SPDX-License-Identifier: Apache-2.0
// op_bench: median microseconds, GFLOP/s and GB/s of each op beside the machine's ceilings of the same run.
// "%" is the time the applicable ceilings would need as a share of the time taken: flops over the nominal
// peak of the arithmetic that fits the formats (int8 tiles, bf16 tiles, else f32), or bytes over the
// bandwidth of a working set of that size, whichever is longer; "random" the same with what tiles reach on
// random numbers.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>

#include "base/thread_pool.h"
#include "ceilings.h"
#include "op_cases.h"

namespace indexshare {
namespace {

// Median seconds of at least 5 runs and at least `budget` seconds, after one that warms up.
double median_seconds(Clock clock, const std::function<void()>& run, double budget) {
  run();
  std::vector<double> times;
  double total = 0;
  while (times.size() < 5 || total < budget) {
    const double begin = seconds(clock);
    run();
    times.push_back(seconds(clock) - begin);
    total += times.back();
  }
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

struct Options {
  std::string backend = "cpu", shape = "bench-8l";
  std::vector<std::string> ops = op_names();
  int threads = 0;
  double budget = 0.3;
  bool csv = false;
  bool cpu_time = false;
  CaseOptions cases{{1, 8, 512}, {4096, 65536}};
};

void bench(const Options& options) {
  const auto backend = make_backend(options.backend, options.threads);
  ThreadPool pool(options.threads);
  const Clock clock = options.cpu_time ? Clock::cpu : Clock::wall;
  const Ceilings ceilings = measure_ceilings(pool, clock);
  if (options.csv) {
    fmt::print("case,backend,us,gflops,gbytes_per_s,percent_of_ceiling,percent_on_random_numbers\n");
  } else {
    fmt::print("{}\nceilings: {}\n", backend->description(), ceilings.description());
    fmt::print("{:<46} {:>12} {:>10} {:>8} {:>6} {:>7}\n", "", "us", "GFLOP/s", "GB/s", "%", "random");
  }
  for (const std::string& op : options.ops)
    for_each_case(*backend, model_shape(options.shape), options.cases, op, [&](const OpCase& c) {
      const double time = median_seconds(clock, c.run, options.budget);
      const Ceilings::Bandwidth& memory = ceilings.bandwidth(c.working_set > 0 ? c.working_set : c.bytes);
      const double bandwidth = c.access == Access::rows ? memory.rows : memory.stream;
      const Ceilings::Peak flops = ceilings.flops(c.arithmetic);
      const auto percent_of = [&](double peak) {
        return 100 * std::max(c.flops / peak, c.bytes / bandwidth) / time;
      };
      const double percent = percent_of(flops.zeros), random = percent_of(flops.random);
      if (options.csv) {
        fmt::print("\"{}\",\"{}\",{:.1f},{:.2f},{:.2f},{:.1f},{:.1f}\n", c.name, backend->description(),
                   time * 1e6, c.flops / time * 1e-9, c.bytes / time * 1e-9, percent, random);
      } else {
        fmt::print("{:<46} {:>12.1f} {:>10.1f} {:>8.2f} {:>6.1f} {:>7.1f}\n", c.name, time * 1e6,
                   c.flops / time * 1e-9, c.bytes / time * 1e-9, percent, random);
      }
      std::fflush(stdout);
    });
}

int run(int argc, char** argv) {
  Options options;
  const std::map<std::string, DType> dtypes = {
      {"f32", DType::f32}, {"f16", DType::f16}, {"bf16", DType::bf16}, {"f8_e4m3", DType::f8_e4m3}};
  const std::map<std::string, WeightFormat> weight_formats = {
      {"as_stored", WeightFormat::as_stored}, {"int8", WeightFormat::int8}, {"int4", WeightFormat::int4}};
  CLI::App app("Times the backend's ops against the machine's ceilings");
  app.add_option("--backend", options.backend, "cpu or reference");
  app.add_option("--shape", options.shape, "bench-8l, glm or indexshare-tiny");
  app.add_option("--op", options.ops, "ops to time, default all");
  app.add_option("--rows", options.cases.rows, "numbers of rows");
  app.add_option("--context", options.cases.contexts, "context lengths of index_select and sparse_attention");
  app.add_option("--weights", options.cases.weights, "dtype of the weights")
      ->transform(CLI::CheckedTransformer(dtypes));
  app.add_option("--quantise", options.cases.format, "keep the weights as int8 or int4")
      ->transform(CLI::CheckedTransformer(weight_formats));
  app.add_option("--activation-bits", options.cases.activation_bits, "8, 16 or 32");
  app.add_option("--cache", options.cases.cache, "format of cached latents")
      ->transform(CLI::CheckedTransformer(kRowFormats));
  app.add_option("--keys", options.cases.keys, "format of cached index keys")
      ->transform(CLI::CheckedTransformer(kRowFormats));
  app.add_option("--threads", options.threads, "0 = what the process may use");
  app.add_option("--seconds", options.budget, "least time of a case");
  app.add_flag("--cpu-time", options.cpu_time, "measure the process's CPU time (for --threads 1)");
  app.add_flag("--csv", options.csv, "comma-separated values");
  CLI11_PARSE(app, argc, argv);
  bench(options);
  return 0;
}

}  // namespace
}  // namespace indexshare

int main(int argc, char** argv) {
  try {
    return indexshare::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "op_bench: {}\n", error.what());
    return 1;
  }
}
