# SPDX-License-Identifier: Apache-2.0
"""Safetensors files and sharded checkpoints: written at known offsets, read by mapping."""

import json
import math
import os
import struct

import numpy as np

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
        """Tensor names without the scales of FP8 tensors, which belong to their weights."""
        return [name for name in self._tensors if not name.endswith(SCALE_SUFFIX)]

    def stored_dtype(self, name):
        return self._tensors[name][1]

    def __contains__(self, name):
        return name in self._tensors

    def raw(self, name):
        """The stored elements (bf16 as uint16, e4m3 as uint8), mapped."""
        path, stored, shape, start = self._tensors[name]
        return np.memmap(path, STORED[stored][0], "r", offset=start, shape=shape)

    def __getitem__(self, name):
        """f32 tensor; FP8 is multiplied by its block scales."""
        values, stored = np.asarray(self.raw(name)), self.stored_dtype(name)
        if stored == "F8_E4M3":
            return dequantise_blocks(values, np.asarray(self.raw(name + SCALE_SUFFIX)))
        return decode(values, stored)


def _files(folder):
    index = os.path.join(folder, "model.safetensors.index.json")
    if os.path.exists(index):
        with open(index) as file:
            names = sorted(set(json.load(file)["weight_map"].values()))
    else:
        names = ["model.safetensors"]
    return [os.path.join(folder, name) for name in names]
