// SPDX-License-Identifier: Apache-2.0
// Loads a model through the installed headers and prints the tokens that follow two others.
#include <indexshare/engine.h>

#include <cstdio>
#include <exception>

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::fprintf(stderr, "usage: consumer MODEL\n");
    return 2;
  }
  const auto engine = indexshare::Engine::load(argv[1]);
  indexshare::Request request;
  request.tokens = {1, 2};
  request.sampling.max_tokens = 4;
  request.sampling.temperature = 0;
  request.sampling.ignore_eos = true;
  const indexshare::Completion completion = engine->generate(request);
  for (const auto& token : completion.tokens) std::printf("%d\n", token.token);
  return completion.tokens.size() == 4 ? 0 : 1;
} catch (const std::exception& error) {
  std::fprintf(stderr, "consumer: %s\n", error.what());
  return 1;
}
