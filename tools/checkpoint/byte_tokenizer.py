# SPDX-License-Identifier: Apache-2.0
"""A byte-level tokenizer.json with no merges: token id = byte, then a few special tokens."""

import json
import os

NAMES = ("<|endoftext|>", "<|user|>", "<|observation|>", "<|assistant|>", "<|system|>")


def byte_characters():
    """The 256 characters of byte-level BPE: a byte itself where printable, else from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    characters = {byte: chr(byte) for byte in printable}
    characters.update({byte: chr(0x100 + i) for i, byte in enumerate(others)})
    return [characters[byte] for byte in range(256)]


def special_tokens(config):
    """{id: name}: the configuration's end tokens where they are, the others after the bytes."""
    vocab_size = config["vocab_size"]
    ends = config.get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]
    ids = [i for i in ends if i is not None and i < vocab_size][: len(NAMES)]
    free = (i for i in range(min(256, max(vocab_size - len(NAMES), 0)), vocab_size) if i not in ids)
    ids += list(free)[: len(NAMES) - len(ids)]
    return dict(zip(ids, NAMES, strict=False))


def write_tokenizer(folder, config):
    """tokenizer.json and tokenizer_config.json; small vocabularies keep only the first bytes."""
    specials = special_tokens(config)
    size = min(256, config["vocab_size"])
    vocab = {c: i for i, c in enumerate(byte_characters()[:size]) if i not in specials}
    vocab.update({name: i for i, name in specials.items()})
    byte_level = {"add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": name, **flags, "special": True}
            for i, name in sorted(specials.items())
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", **byte_level},
        "post_processor": {"type": "ByteLevel", **byte_level},
        "decoder": {"type": "ByteLevel", **byte_level},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [],
        },
    }
    _dump(os.path.join(folder, "tokenizer.json"), tokenizer)
    first = next(iter(specials.values()))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": first}
    _dump(os.path.join(folder, "tokenizer_config.json"), settings)


def _dump(path, value):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=False, indent=1)
        file.write("\n")
