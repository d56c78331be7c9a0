# SPDX-License-Identifier: Apache-2.0
"""Runs `indexshare logits` on a checkpoint and reads back what it wrote."""

import json
import os
import subprocess

import numpy as np


class ProgramError(Exception):
    """The program failed, or wrote something of the wrong shape."""


class Program:
    def __init__(self, path, backend, folder, num_tokens, overrides):
        self._command = [path, "logits", folder, "--tokens", os.path.join(folder, "tokens.npy")]
        self._command += ["--backend", backend]
        if overrides:
            self._command += ["--hf-overrides", json.dumps(overrides)]
        self._folder, self._num_tokens = folder, num_tokens

    def run(self, *options, cache="f32", forced=None):
        """logits [n, vocab] f32, selections [num_full_layers, n, width] int32."""
        output, dumped = (os.path.join(self._folder, name) for name in ("o.npy", "s.npy"))
        command = [*self._command, "--output", output, "--dump-selections", dumped]
        command += ["--kv-cache-dtype", cache, *map(str, options)]
        if forced is not None:
            path = os.path.join(self._folder, "forced.npy")
            np.save(path, forced.astype(np.int32))
            command += ["--force-selections", path]
        for stale in (output, dumped):
            if os.path.exists(stale):
                os.remove(stale)
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ProgramError(f"exit {done.returncode}: {last}")
        logits, selections = np.load(output), np.load(dumped)
        if logits.dtype != np.float32 or len(logits) != self._num_tokens:
            raise ProgramError(f"logits are {logits.dtype} {logits.shape}")
        return logits, selections
