# SPDX-License-Identifier: Apache-2.0
"""A whole training step as one CUDA graph: this model's steps are so small that launching their
kernels one by one takes two to three times as long as running them."""

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3  # eager steps before the capture, so that nothing compiles or allocates for good in it

Step = Callable[[dict[str, Tensor], Tensor], dict[str, Tensor]]


class GraphedStep:
    """Runs `step(batch, factor)`, which must neither wait for the device nor change its shapes:
    eagerly at first, then from the graph. Batches live on the host, results on the device."""

    def __init__(self, step: Step, device: torch.device):
        self.step, self.device = step, device
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self.factor = torch.zeros((), device=device)
        self.batch: dict[str, Tensor] = {}
        self.result: dict[str, Tensor] = {}

    def __call__(self, batch: dict[str, Tensor], factor: float) -> dict[str, Tensor]:
        self.factor.fill_(factor)
        if not self.batch:
            self.batch = {
                name: torch.empty_like(x, device=self.device) for name, x in batch.items()
            }
        for name, x in batch.items():
            self.batch[name].copy_(x, non_blocking=True)
        self.calls += 1
        if self.stream is None:
            return self.step(self.batch, self.factor)
        if self.graph is None and self.calls > WARM_UP:
            self.capture()
        if self.graph is not None:
            self.graph.replay()
            return self.result
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            result = self.step(self.batch, self.factor)
        torch.cuda.current_stream().wait_stream(self.stream)
        return result

    def capture(self) -> None:
        """thread_local: the loaders' threads may go on pinning memory meanwhile."""
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"):
            self.result = self.step(self.batch, self.factor)
        self.graph = graph
