# SPDX-License-Identifier: Apache-2.0
"""f32 to and from the formats of checkpoints: f16, bf16, e4m3, and FP8 in 128 x 128 blocks.

Everything is integer arithmetic or a single rounding, so that every numpy gives the same bytes.
"""

import numpy as np

BLOCK = 128  # FP8 releases keep one f32 scale for every 128 x 128 weights
E4M3_MAX = np.float32(448.0)

# safetensors name -> (numpy type of the stored element, bytes)
STORED = {
    "F64": (np.dtype("<f8"), 8),
    "F32": (np.dtype("<f4"), 4),
    "F16": (np.dtype("<f2"), 2),
    "BF16": (np.dtype("<u2"), 2),
    "F8_E4M3": (np.dtype("u1"), 1),
    "I64": (np.dtype("<i8"), 8),
    "I32": (np.dtype("<i4"), 4),
    "U8": (np.dtype("u1"), 1),
}


def to_bf16(values):
    """f32 [...] -> uint16 [...], round to nearest even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def from_bf16(codes):
    """uint16 [...] -> f32 [...]."""
    return (codes.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_e4m3(values):
    """f32 [...] within +-448 -> uint8 [...], round to nearest even, saturating."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    sign = (values.view(np.uint32) >> np.uint32(24)) & np.uint32(0x80)
    magnitude = np.minimum(np.abs(values), E4M3_MAX)
    bits = magnitude.view(np.uint32)
    rounded = bits + np.uint32(0x7FFFF) + ((bits >> np.uint32(20)) & np.uint32(1))
    # Exponent bias 127 -> 7, kept above the three mantissa bits.
    normal = (rounded >> np.uint32(20)) - np.uint32((127 - 7) << 3)
    subnormal = np.rint(magnitude * np.float32(512.0)).astype(np.uint32)
    code = np.where(magnitude < np.float32(2.0**-6), subnormal, normal)
    return (np.minimum(code, 0x7E) | sign).astype(np.uint8)


def _e4m3_table():
    codes = np.arange(256)
    exponent, mantissa = (codes >> 3) & 15, codes & 7
    normal = (8 + mantissa) * 2.0 ** (exponent - 10.0)
    values = np.where(exponent == 0, mantissa * 2.0**-9, normal)
    values = np.where((codes & 0x7F) == 0x7F, np.nan, values)
    return np.where(codes & 0x80, -values, values).astype(np.float32)


_E4M3 = _e4m3_table()


def from_e4m3(codes):
    """uint8 [...] -> f32 [...]."""
    return _E4M3[codes]


def quantise_blocks(values):
    """f32 [rows, columns] -> e4m3 uint8 [rows, columns], f32 [ceil(rows/128), ceil(columns/128)].

    The last block of either axis may be partial. weight = code * scale.
    """
    rows, columns = values.shape
    scales = np.empty((-(-rows // BLOCK), -(-columns // BLOCK)), np.float32)
    codes = np.empty((rows, columns), np.uint8)
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            here = np.s_[i * BLOCK : (i + 1) * BLOCK, j * BLOCK : (j + 1) * BLOCK]
            largest = np.abs(values[here]).max()
            scales[i, j] = largest / E4M3_MAX if largest > 0 else np.float32(1.0)
            codes[here] = to_e4m3(values[here] / scales[i, j])
    return codes, scales


def dequantise_blocks(codes, scales):
    """The inverse of quantise_blocks: f32 [rows, columns], one multiplication in f32."""
    rows, columns = codes.shape
    wide = scales.repeat(BLOCK, axis=0)[:rows].repeat(BLOCK, axis=1)[:, :columns]
    return from_e4m3(codes) * wide


def encode(values, stored):
    """f32 [...] -> array of the element type of `stored` (a safetensors dtype name)."""
    if stored == "BF16":
        return to_bf16(values)
    if stored == "F8_E4M3":
        return to_e4m3(values)
    return values.astype(STORED[stored][0])


def decode(array, stored):
    """Stored elements [...] -> f32 [...]."""
    if stored == "BF16":
        return from_bf16(array)
    if stored == "F8_E4M3":
        return from_e4m3(array)
    return array.astype(np.float32)
