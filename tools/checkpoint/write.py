# SPDX-License-Identifier: Apache-2.0
"""Writes a random checkpoint, a few megabytes in memory at a time."""

import glob
import json
import os

import numpy as np

from .byte_tokenizer import write_tokenizer
from .inventory import Recipe, tensors
from .number_formats import BLOCK, STORED, encode, quantise_blocks
from .random_values import Stream
from .safetensors_file import SCALE_SUFFIX, CheckpointWriter

STORED_NAMES = {"f32": "F32", "f16": "F16", "bf16": "BF16", "fp8": "BF16"}
TORCH_NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "fp8": "bfloat16"}
FP8_CONFIG = {
    "quant_method": "fp8",
    "fmt": "e4m3",
    "activation_scheme": "dynamic",
    "weight_block_size": [BLOCK, BLOCK],
}
_PIECE = 1 << 22  # elements


def write_checkpoint(
    folder, config, dtype="f32", seed=0, num_shards=1, all_indexers=False, recipe=None
):
    """Writes config.json and the weights of `config` (a dict) into `folder`."""
    os.makedirs(folder, exist_ok=True)
    for stale in glob.glob(os.path.join(glob.escape(folder), "model*.safetensors*")):
        os.remove(stale)
    config = {**config, "dtype": TORCH_NAMES[dtype]}
    if dtype == "fp8":
        config["quantization_config"] = FP8_CONFIG
    _dump(os.path.join(folder, "config.json"), config)
    generation = {key: config[key] for key in ("eos_token_id", "pad_token_id") if key in config}
    _dump(os.path.join(folder, "generation_config.json"), generation)

    plan = tensors(config, recipe or Recipe(), all_indexers)
    writer = CheckpointWriter(folder, _layout(plan, dtype), num_shards)
    direction = Stream(seed, "direction").signs(config["hidden_size"])
    for tensor in plan:
        _write_tensor(writer, tensor, dtype, seed, direction)
    writer.close()
    write_tokenizer(folder, config)


def _stored(tensor, dtype):
    if tensor.always_f32:
        return "F32"
    return "F8_E4M3" if dtype == "fp8" and tensor.quantised else STORED_NAMES[dtype]


def _layout(plan, dtype):
    result = []
    for tensor in plan:
        stored = _stored(tensor, dtype)
        result.append((tensor.name, tensor.shape, stored))
        if stored == "F8_E4M3":
            blocks = tuple(-(-size // BLOCK) for size in tensor.shape)
            result.append((tensor.name + SCALE_SUFFIX, blocks, "F32"))
    return result


def _write_tensor(writer, tensor, dtype, seed, direction):
    stored = _stored(tensor, dtype)
    stream = Stream(seed, tensor.name)
    rows = tensor.shape[0]
    columns = tensor.shape[1] if len(tensor.shape) == 2 else 1
    step = max(BLOCK, _PIECE // columns // BLOCK * BLOCK)
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        values = _values(tensor, stream, begin, end, columns, direction)
        if stored == "F8_E4M3":
            values *= _block_gains(tensor.name, seed, begin, values.shape)
            codes, scales = quantise_blocks(values)
            writer.write(tensor.name, codes, begin * columns)
            offset = begin // BLOCK * scales.shape[1] * 4
            writer.write(tensor.name + SCALE_SUFFIX, scales, offset)
        else:
            offset = begin * columns * STORED[stored][1]
            writer.write(tensor.name, encode(values, stored), offset)


def _values(tensor, stream, begin, end, columns, direction):
    """f32 [end - begin, columns]: the next rows of the tensor."""
    values = stream.normal((end - begin) * columns).reshape(end - begin, columns)
    if np.ndim(tensor.deviation) == 1:
        values *= tensor.deviation[begin:end, None]
    else:
        values *= np.float32(tensor.deviation)
    if tensor.mean:
        values += np.float32(tensor.mean)
    if tensor.along:
        values += np.float32(tensor.along) * direction
    return values


def _block_gains(name, seed, begin, shape):
    """f32 [rows, columns], a factor by block: were scales alike, mixing them up would not show."""
    blocks = tuple(-(-size // BLOCK) for size in shape)
    choice = Stream(seed, f"{name}/{begin}").below(4, blocks[0] * blocks[1]).reshape(blocks)
    gains = np.array([0.5, 0.75, 1.0, 1.5], np.float32)[choice]
    return gains.repeat(BLOCK, axis=0)[: shape[0]].repeat(BLOCK, axis=1)[:, : shape[1]]


def _dump(path, value):
    with open(path, "w") as file:
        json.dump(value, file, indent=1)
        file.write("\n")
