# SPDX-License-Identifier: Apache-2.0
"""Random numbers that are the same for every numpy and every machine.

Raw 64-bit integers of PCG64 become bell-shaped values by adding four 16-bit uniforms: integers
until one multiplication, so no mathematics library can make a difference. Values stay within 3.5
deviations.
"""

import hashlib

import numpy as np

_DEVIATION = np.float32(1.0 / 37837.2269)  # of the sum of four integers uniform in 0 .. 65535


class Stream:
    """A stream of its own for each (seed, name): tensors do not depend on their order."""

    def __init__(self, seed, name):
        digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
        self._bits = np.random.PCG64(int.from_bytes(digest[:8], "little"))

    def normal(self, count):
        """f32 [count], mean 0, deviation 1."""
        parts = self._bits.random_raw(count).astype("<u8", copy=False).view("<u2")
        total = parts[0::4].astype(np.int32)
        for i in range(1, 4):
            total += parts[i::4]
        return (total - np.int32(131070)).astype(np.float32) * _DEVIATION

    def below(self, bound, count):
        """int64 [count], uniform in 0 .. bound - 1 (bound far below 2^32)."""
        high = self._bits.random_raw(count) >> np.uint64(32)
        return ((high * np.uint64(bound)) >> np.uint64(32)).astype(np.int64)

    def signs(self, count):
        """f32 [count] of -1 and 1."""
        return (2 * self.below(2, count) - 1).astype(np.float32)


def random_tokens(seed, vocab_size, count):
    """int64 [count]."""
    return Stream(seed, "tokens").below(vocab_size, count)
