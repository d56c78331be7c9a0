#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bf16 and e4m3 by hand: every code survives, ties go to even, blocks find their scale."""

import unittest

import numpy as np
import tools_path  # noqa: F401
from checkpoint.number_formats import (
    dequantise_blocks,
    from_bf16,
    from_e4m3,
    quantise_blocks,
    to_bf16,
    to_e4m3,
)
from checkpoint.random_values import Stream

from checkpoint import packed_weights


class NumberFormats(unittest.TestCase):
    def test_every_e4m3_code_survives(self):
        codes = np.array([c for c in range(256) if c & 0x7F != 0x7F], np.uint8)
        np.testing.assert_array_equal(to_e4m3(from_e4m3(codes)), codes)

    def test_e4m3_rounds_to_the_nearest_and_ties_to_even(self):
        table = from_e4m3(np.arange(0x7F, dtype=np.uint8)).astype(np.float64)
        middles = (table[1:] + table[:-1]) / 2
        lower = np.arange(len(middles))
        expected = np.where(lower % 2 == 0, lower, lower + 1)
        np.testing.assert_array_equal(to_e4m3(middles.astype(np.float32)), expected)
        below = np.nextafter(middles.astype(np.float32), np.float32(0))
        np.testing.assert_array_equal(to_e4m3(below), lower)
        above = np.nextafter(middles.astype(np.float32), np.float32(np.inf))
        np.testing.assert_array_equal(to_e4m3(-above), (lower + 1) | 0x80)

    def test_e4m3_saturates(self):
        np.testing.assert_array_equal(to_e4m3(np.float32([1e9, -449.0])), [0x7E, 0xFE])

    def test_every_finite_bf16_code_survives(self):
        codes = np.arange(65536).astype(np.uint16)
        codes = codes[(codes & 0x7F80) != 0x7F80]
        np.testing.assert_array_equal(to_bf16(from_bf16(codes)), codes)

    def test_bf16_ties_go_to_even(self):
        values = np.uint32([0x3F808000, 0x3F818000, 0x3F808001]).view(np.float32)
        np.testing.assert_array_equal(to_bf16(values), [0x3F80, 0x3F82, 0x3F81])

    def test_partial_blocks_keep_their_own_scale(self):
        values = Stream(0, "blocks").normal(200 * 300).reshape(200, 300)
        values[128:] *= np.float32(100.0)
        values[:, 256:] *= np.float32(0.01)
        codes, scales = quantise_blocks(values)
        self.assertEqual(scales.shape, (2, 3))
        error = np.abs(dequantise_blocks(codes, scales) - values)
        self.assertTrue((error <= np.abs(values) / 16 + scales.max() * 2.0**-10).all())
        corner = error[128:, 256:].max() / np.abs(values[128:, 256:]).max()
        self.assertLess(corner, 1 / 16)

    def test_packed_codes_survive(self):
        codes = np.arange(-8, 8, dtype=np.int8).repeat(9).reshape(8, 18)
        words = packed_weights.pack(codes, 4)
        self.assertEqual(words.shape, (8, 3))
        self.assertEqual(words.view(np.uint32)[1, 0] & 0xF, int(codes[1, 0]) + 8)
        np.testing.assert_array_equal(packed_weights.unpack(words, 4, 18), codes)
        codes = np.arange(-128, 128, dtype=np.int16).astype(np.int8).reshape(2, 128)
        words = packed_weights.pack(codes, 8)
        np.testing.assert_array_equal(packed_weights.unpack(words, 8, 128), codes)

    def test_quantised_groups_keep_their_own_scale(self):
        values = Stream(0, "groups").normal(20 * 300).reshape(20, 300)
        values[:, 256:] *= np.float32(0.01)
        for bits, step in ((8, 1 / 127), (4, 1 / 8)):
            codes, scales = packed_weights.quantise(values, bits)
            error = np.abs(
                packed_weights.dequantise(codes, scales, packed_weights.GROUP[bits]) - values
            )
            for columns in (np.s_[:256], np.s_[256:]):
                largest = np.abs(values[:, columns]).max()
                self.assertLessEqual(error[:, columns].max(), largest * step)
        self.assertTrue((scales < 0).any() and (scales > 0).any())

    def test_random_values_never_change(self):
        bits = Stream(0, "probe").normal(3).view(np.uint32)
        np.testing.assert_array_equal(bits, [1059023509, 3216531264, 3213428537])


if __name__ == "__main__":
    unittest.main()
