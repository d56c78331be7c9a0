# SPDX-License-Identifier: Apache-2.0
"""A checkpoint in GLM-5.2's format back into the training model (the inverse of export.py)."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from export import checkpoint_tensors
from model import Model
from shape import Shape


def read_shape(config: dict) -> Shape:
    return Shape(
        vocab_size=config["vocab_size"],
        hidden_size=config["hidden_size"],
        num_heads=config["num_attention_heads"],
        q_lora_rank=config["q_lora_rank"],
        kv_lora_rank=config["kv_lora_rank"],
        nope_dim=config["qk_nope_head_dim"],
        rope_dim=config["qk_rope_head_dim"],
        value_dim=config["v_head_dim"],
        dense_width=config["intermediate_size"],
        num_dense_layers=config["first_k_dense_replace"],
        num_experts=config["n_routed_experts"],
        experts_per_token=config["num_experts_per_tok"],
        expert_width=config["moe_intermediate_size"],
        routed_scale=config["routed_scaling_factor"],
        index_heads=config["index_n_heads"],
        index_dim=config["index_head_dim"],
        index_topk=config["index_topk"],
        share_freq=config["index_topk_freq"],
        share_offset=config["index_skip_topk_offset"],
        num_layers=config["num_hidden_layers"],
        rope_theta=float(config["rope_parameters"]["rope_theta"]),
        max_positions=config["max_position_embeddings"],
        norm_eps=config["rms_norm_eps"],
    )


@torch.no_grad()
def import_checkpoint(folder: Path) -> Model:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
    stored = {}
    for name in sorted(set(index["weight_map"].values())):
        stored |= load_file(str(folder / name))
    model = Model(read_shape(config))
    for parameter in model.parameters():
        parameter.data.fill_(float("nan"))
    views = checkpoint_tensors(model)
    if set(views) != set(stored):
        raise ValueError(f"tensor names differ: {sorted(set(views) ^ set(stored))[:5]}")
    for name, tensor in stored.items():
        views[name].copy_(tensor)
    return model
