# SPDX-License-Identifier: Apache-2.0
"""Safetensors files and sharded checkpoints: written at known offsets, read by mapping."""

import json
import math
import os
import struct

import numpy as np

from . import packed_weights
from .number_formats import STORED, decode, dequantise_blocks

SCALE_SUFFIX = "_scale_inv"


def tensor_bytes(shape, stored):
    return math.prod(shape) * STORED[stored][1]


class CheckpointWriter:
    """Lays out tensors [(name, shape, stored dtype), ...]; then takes bytes in any order."""

    def __init__(self, folder, tensors, num_shards=1):
        self._places = {}  # name -> (file, byte offset in the file)
        self._files = []
        weight_map = {}
        shards = _split(tensors, num_shards)
        for i, shard in enumerate(shards):
            name = "model.safetensors"
            if num_shards > 1:
                name = f"model-{i + 1:05d}-of-{num_shards:05d}.safetensors"
            self._files.append(self._start_file(os.path.join(folder, name), shard))
            weight_map.update({tensor[0]: name for tensor in shard})
        if num_shards > 1:
            total = sum(tensor_bytes(shape, stored) for _, shape, stored in tensors)
            index = {"metadata": {"total_size": total}, "weight_map": weight_map}
            with open(os.path.join(folder, "model.safetensors.index.json"), "w") as file:
                json.dump(index, file, indent=1, sort_keys=True)

    def _start_file(self, path, tensors):
        # Wide elements first: every tensor is then aligned to its own element.
        tensors = sorted(tensors, key=lambda tensor: -STORED[tensor[2]][1])
        header, offset = {"__metadata__": {"format": "pt"}}, 0
        for name, shape, stored in tensors:
            end = offset + tensor_bytes(shape, stored)
            header[name] = {"dtype": stored, "shape": list(shape), "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        file = open(path, "wb")  # noqa: SIM115, closed by close()
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)
        for name, _, _ in tensors:
            self._places[name] = (file, 8 + len(text) + header[name]["data_offsets"][0])
        return file

    def write(self, name, array, byte_offset=0):
        """Stores the bytes of `array` (already encoded) at byte_offset of tensor `name`."""
        file, start = self._places[name]
        file.seek(start + byte_offset)
        file.write(np.ascontiguousarray(array).data)

    def close(self):
        for file in self._files:
            file.close()


def _split(tensors, num_shards):
    """Consecutive runs of about equal bytes, none empty."""
    if not 1 <= num_shards <= len(tensors):
        raise ValueError(f"cannot lay {len(tensors)} tensors over {num_shards} shards")
    total = sum(tensor_bytes(shape, stored) for _, shape, stored in tensors)
    shards, filled = [[]], 0
    for i, tensor in enumerate(tensors):
        left = num_shards - len(shards)
        full = filled >= total * len(shards) / num_shards
        if shards[-1] and left and (full or len(tensors) - i <= left):
            shards.append([])
        shards[-1].append(tensor)
        filled += tensor_bytes(tensor[1], tensor[2])
    return shards


class Checkpoint:
    """A checkpoint folder: config, and its tensors as f32 whatever they are stored as."""

    def __init__(self, folder):
        with open(os.path.join(folder, "config.json")) as file:
            self.config = json.load(file)
        self._tensors = {}  # name -> (path, stored dtype, shape, byte offset)
        for path in _files(folder):
            with open(path, "rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            for name, entry in header.items():
                start = 8 + length + entry["data_offsets"][0]
                self._tensors[name] = (path, entry["dtype"], tuple(entry["shape"]), start)

    def names(self):
        """Tensor names without the scales of FP8 tensors; the three parts of a packed weight are one."""
        parts = {name + s for name in self._packed() for s in packed_weights.SUFFIXES}
        plain = [n for n in self._tensors if not n.endswith(SCALE_SUFFIX) and n not in parts]
        return plain + self._packed()

    def _packed(self):
        return [n.removesuffix("_packed") for n in self._tensors if n.endswith(".weight_packed")]

    def shape(self, name):
        if name in self._tensors:
            return self._tensors[name][2]
        return tuple(map(int, self.raw(name + "_shape")))

    def stored_dtype(self, name):
        return self._tensors[name][1]

    def __contains__(self, name):
        return name in self._tensors or name + "_packed" in self._tensors

    def raw(self, name):
        """The stored elements (bf16 as uint16, e4m3 as uint8), mapped."""
        path, stored, shape, start = self._tensors[name]
        return np.memmap(path, STORED[stored][0], "r", offset=start, shape=shape)

    def __getitem__(self, name):
        """f32 tensor; codes are multiplied by their scales, and kv_b_proj beside them is rounded
        to int8 as the program does at load."""
        if name not in self._tensors:
            return self._unpacked(name)
        values, stored = np.asarray(self.raw(name)), self.stored_dtype(name)
        if stored == "F8_E4M3":
            return dequantise_blocks(values, np.asarray(self.raw(name + SCALE_SUFFIX)))
        values = decode(values, stored)
        if name.endswith(".kv_b_proj.weight") and self._packed():
            return packed_weights.round_key_value(values, self.config)
        return values

    def _unpacked(self, name):
        words, scales = (np.asarray(self.raw(name + s)) for s in ("_packed", "_scale"))
        columns = int(self.raw(name + "_shape")[1])
        bits = 8 if words.shape[1] == -(-columns // 4) else 4
        codes = packed_weights.unpack(words, bits, columns)
        return packed_weights.dequantise(codes, scales, packed_weights.GROUP[bits])


def _files(folder):
    index = os.path.join(folder, "model.safetensors.index.json")
    if os.path.exists(index):
        with open(index) as file:
            names = sorted(set(json.load(file)["weight_map"].values()))
    else:
        names = ["model.safetensors"]
    return [os.path.join(folder, name) for name in names]
