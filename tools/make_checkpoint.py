#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a random checkpoint of any configuration: config.json, safetensors, tokenizer.json.

    tools/make_checkpoint.py OUT --preset tiny-glm --dtype bf16 --set index_topk=16
    tools/make_checkpoint.py OUT --config config.json --dtype fp8 --shards 4 --all-indexers

The same arguments give the same bytes on every machine. Needs numpy only.
"""

import argparse
import json
import os
import shutil
import sys

from checkpoint.inventory import Recipe
from checkpoint.presets import PRESETS
from checkpoint.write import STORED_NAMES, write_checkpoint


def set_key(config, assignment):
    """Applies key=value (dots reach into objects; the value is JSON, or else a string)."""
    path, separator, text = assignment.partition("=")
    if not separator:
        raise ValueError(f"--set {assignment}: expected key=value")
    *parents, key = path.split(".")
    for parent in parents:
        config = config.setdefault(parent, {})
    try:
        config[key] = json.loads(text)
    except json.JSONDecodeError:
        config[key] = text


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out_dir")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--config", help="a config.json")
    source.add_argument("--preset", choices=sorted(PRESETS))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--dtype", choices=sorted(STORED_NAMES), default="bf16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shards", type=int, default=1)
    parser.add_argument(
        "--all-indexers", action="store_true", help="indexer tensors on shared layers too"
    )
    parser.add_argument(
        "--zero",
        action="append",
        default=[],
        metavar="GLOB",
        help="tensors of zeros: a layer whose o_proj is zero adds nothing, whatever it attends",
    )
    parser.add_argument("--tokenizer", metavar="DIR", help="copy the tokenizer files of DIR")
    defaults = Recipe()
    parser.add_argument("--latent-scale", type=float, default=defaults.latent_scale)
    parser.add_argument(
        "--gate-along",
        type=float,
        default=defaults.gate_along,
        help="how positive the index gates are; 0 makes plateaus of equal scores",
    )
    parser.add_argument(
        "--block-gain",
        type=float,
        default=defaults.block_gain,
        help="of what attention and MLPs add to the stream",
    )
    parser.add_argument(
        "--draft-skill",
        type=float,
        default=defaults.draft_skill,
        help="0 to 1: how often the MTP layer's drafts come true; with a small --block-gain",
    )
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    if arguments.preset:
        config = json.loads(json.dumps(PRESETS[arguments.preset]))
    else:
        with open(arguments.config) as file:
            config = json.load(file)
    for assignment in arguments.settings:
        set_key(config, assignment)
    write_checkpoint(
        arguments.out_dir,
        config,
        arguments.dtype,
        arguments.seed,
        arguments.shards,
        arguments.all_indexers,
        Recipe(
            latent_scale=arguments.latent_scale,
            gate_along=arguments.gate_along,
            block_gain=arguments.block_gain,
            draft_skill=arguments.draft_skill,
            zero=tuple(arguments.zero),
        ),
    )
    if arguments.tokenizer:
        for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
            path = os.path.join(arguments.tokenizer, name)
            if os.path.exists(path):
                shutil.copy(path, arguments.out_dir)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError) as error:
        sys.exit(f"make_checkpoint: {type(error).__name__}: {error}")
