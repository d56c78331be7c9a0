# SPDX-License-Identifier: Apache-2.0
"""int8 and int4 weights in compressed-tensors' pack-quantized layout, written from its description.

NAME.weight becomes NAME.weight_packed (codes + 2^(bits-1), side by side in 32-bit words, the first in
the lowest bits), NAME.weight_scale (f32, one for each group of columns) and NAME.weight_shape.
"""

import numpy as np

GROUP = {8: 128, 4: 64}  # columns that share a scale
SUFFIXES = ("_packed", "_scale", "_shape")
_DELICATE = (".indexer.wq_b.weight", ".indexer.wk.weight")


def bits_of(name, quantised, dtype):
    """How a checkpoint of `dtype` ("int8" or "int4") stores this weight; None: not packed."""
    if name == "lm_head.weight" or name.endswith(_DELICATE):
        return 8
    if not quantised or name.endswith(".kv_b_proj.weight"):  # cut by head and transposed at load
        return None
    return {"int8": 8, "int4": 4}[dtype]


def quantization_config(dtype):
    def group(targets, bits):
        weights = {"num_bits": bits, "type": "int", "symmetric": True, "strategy": "group"}
        return {"targets": targets, "weights": {**weights, "group_size": GROUP[bits]}}

    groups = {"group_0": group(["Linear"], 8 if dtype == "int8" else 4)}
    if dtype == "int4":
        groups["group_1"] = group(["re:.*indexer\\.(wq_b|wk)$", "lm_head"], 8)
    return {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": groups,
        "ignore": ["re:.*mlp\\.gate$", "re:.*weights_proj$", "re:.*kv_b_proj$", "re:.*eh_proj$"],
    }


def layout(name, shape, bits):
    """[(name, shape, stored dtype)] of a packed weight's tensors."""
    rows, columns = shape
    return [
        (name + "_packed", (rows, -(-columns * bits // 32)), "I32"),
        (name + "_scale", (rows, -(-columns // GROUP[bits])), "F32"),
        (name + "_shape", (2,), "I64"),
    ]


def quantise(values, bits, group=None):
    """f32 [rows, columns] -> codes int8, scales f32 [rows, groups].

    With 4 bits the largest value of a group becomes -8, so that about half of the scales are negative.
    """
    groups = _groups(values, group or GROUP[bits])
    place = np.abs(groups).argmax(-1)[..., None]
    largest = np.take_along_axis(groups, place, -1)[..., 0]
    scales = -largest / np.float32(8) if bits == 4 else np.abs(largest) / np.float32(127)
    low, high = (-8, 7) if bits == 4 else (-127, 127)
    divisors = np.where(scales == 0, np.float32(1), scales)[..., None]
    codes = np.clip(np.rint(groups / divisors), low, high).astype(np.int8)
    return _ungrouped(codes, values.shape), scales


def dequantise(codes, scales, group):
    """The inverse: f32 [rows, columns], one multiplication in f32."""
    return codes.astype(np.float32) * scales.repeat(group, axis=1)[:, : codes.shape[1]]


def pack(codes, bits):
    """int8 [rows, columns] -> int32 [rows, words]."""
    per_word = 32 // bits
    offset = (codes.astype(np.int64) + (1 << (bits - 1))).astype(np.uint32)
    padded = np.pad(offset, ((0, 0), (0, -codes.shape[1] % per_word)))
    shifts = np.arange(per_word, dtype=np.uint32) * np.uint32(bits)
    words = padded.reshape(len(codes), -1, per_word) << shifts
    return np.bitwise_or.reduce(words, axis=-1).view(np.int32)


def unpack(words, bits, columns):
    """int32 [rows, words] -> int8 [rows, columns]."""
    shifts = np.arange(32 // bits, dtype=np.uint32) * np.uint32(bits)
    codes = (words.view(np.uint32)[..., None] >> shifts) & np.uint32((1 << bits) - 1)
    codes = codes.reshape(len(words), -1)[:, :columns].astype(np.int16)
    return (codes - (1 << (bits - 1))).astype(np.int8)


def round_to_int8(values):
    """f32 [rows, columns] -> what the program makes of it when it quantises to int8 while loading."""
    groups = _groups(values, GROUP[8])
    largest = np.abs(groups).max(-1, keepdims=True)
    inverse = np.float32(127) / np.where(largest == 0, np.float32(1), largest)
    codes = np.clip(np.rint(groups * inverse), -127, 127)
    return _ungrouped(codes * (largest / np.float32(127)), values.shape)


def round_key_value(values, config):
    """kv_b_proj [heads * (nope + v), latent] as the program loads it beside packed weights.

    It sums over the latent dimensions of a value, and over the rows of a head's key.
    """
    nope, value = config["qk_nope_head_dim"], config["v_head_dim"]
    heads = values.reshape(-1, nope + value, values.shape[1]).copy()
    for head in heads:
        head[:nope] = round_to_int8(np.ascontiguousarray(head[:nope].T)).T
        head[nope:] = round_to_int8(head[nope:])
    return heads.reshape(values.shape)


def _groups(values, group):
    padded = np.pad(values, ((0, 0), (0, -values.shape[1] % group)))
    return padded.reshape(len(values), -1, group)


def _ungrouped(groups, shape):
    return groups.reshape(shape[0], -1)[:, : shape[1]]
