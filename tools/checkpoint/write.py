# SPDX-License-Identifier: Apache-2.0
"""Writes a random checkpoint, a few megabytes in memory at a time."""

import glob
import json
import os

import numpy as np

from .byte_tokenizer import write_tokenizer
from .inventory import Recipe, tensors
from .number_formats import BLOCK, STORED, encode, quantise_blocks
from .packed_weights import bits_of, layout, pack, quantise
from .packed_weights import quantization_config as packed_config
from .random_values import Stream
from .safetensors_file import SCALE_SUFFIX, CheckpointWriter

# Of weights that are not quantised.
STORED_NAMES = {"f32": "F32", "f16": "F16", "bf16": "BF16"} | dict.fromkeys(
    ("fp8", "int8", "int4"), "BF16"
)
TORCH_NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
PACKED = ("int8", "int4")
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
    config = {**config, "dtype": TORCH_NAMES[STORED_NAMES[dtype]]}
    if dtype == "fp8":
        config["quantization_config"] = FP8_CONFIG
    if dtype in PACKED:
        config["quantization_config"] = packed_config(dtype)
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


def _packed_bits(tensor, dtype):
    return bits_of(tensor.name, tensor.quantised, dtype) if dtype in PACKED else None


def _layout(plan, dtype):
    result = []
    for tensor in plan:
        if bits := _packed_bits(tensor, dtype):
            result += layout(tensor.name, tensor.shape, bits)
            continue
        stored = _stored(tensor, dtype)
        result.append((tensor.name, tensor.shape, stored))
        if stored == "F8_E4M3":
            blocks = tuple(-(-size // BLOCK) for size in tensor.shape)
            result.append((tensor.name + SCALE_SUFFIX, blocks, "F32"))
    return result


def _write_tensor(writer, tensor, dtype, seed, direction):
    stored, bits = _stored(tensor, dtype), _packed_bits(tensor, dtype)
    stream = Stream(seed, tensor.name)
    rows = tensor.shape[0]
    columns = tensor.shape[1] if len(tensor.shape) == 2 else 1
    step = max(BLOCK, _PIECE // columns // BLOCK * BLOCK)
    for begin in range(0, rows, step):
        end = min(begin + step, rows)
        values = _values(tensor, stream, begin, end, columns, direction)
        if bits:
            codes, scales = quantise(values, bits)
            for suffix, part in (("_packed", pack(codes, bits)), ("_scale", scales)):
                writer.write(tensor.name + suffix, part, begin * part.shape[1] * 4)
        elif stored == "F8_E4M3":
            values *= _block_gains(tensor.name, seed, begin, values.shape)
            codes, scales = quantise_blocks(values)
            writer.write(tensor.name, codes, begin * columns)
            offset = begin // BLOCK * scales.shape[1] * 4
            writer.write(tensor.name + SCALE_SUFFIX, scales, offset)
        else:
            offset = begin * columns * STORED[stored][1]
            writer.write(tensor.name, encode(values, stored), offset)
    if bits:
        writer.write(tensor.name + "_shape", np.array(tensor.shape, np.int64))


def _values(tensor, stream, begin, end, columns, direction):
    """f32 [end - begin, columns]: the next rows of the tensor."""
    values = stream.normal((end - begin) * columns).reshape(end - begin, columns)
    if np.ndim(tensor.deviation) == 1:
        values *= tensor.deviation[begin:end, None]
    else:
        values *= np.float32(tensor.deviation)
    if tensor.mean:
        values += np.float32(tensor.mean)
    if tensor.diagonal:
        rows = np.arange(begin, min(end, columns))
        values[rows - begin, rows] += np.float32(tensor.diagonal)
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
