# SPDX-License-Identifier: Apache-2.0
"""Training weights to a Hugging Face checkpoint in GLM-5.2's format (bf16, two shards).

python export.py --weights WEIGHTS.pt --data DATA --out ../models/indexshare-tiny
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import Tensor

from checkpoint import load_weights
from layers import Layer, MoeFfn
from model import Model
from shape import to_config_json
from tokenizer import special_ids, write_json, write_tokenizer_files

NUM_SHARDS = 2


def checkpoint_tensors(model: Model) -> dict[str, Tensor]:
    """Views of the model's memory under the format's names; all layers' indexers and the MTP
    layer (behind the last layer) included."""
    tensors = {"model.embed_tokens.weight": model.embed}
    for i, layer in enumerate([*model.layers, model.mtp.layer]):
        tensors |= layer_tensors(f"model.layers.{i}.", layer)
    at = f"model.layers.{model.shape.num_layers}."
    tensors |= {
        at + "enorm.weight": model.mtp.embed_norm,
        at + "hnorm.weight": model.mtp.hidden_norm,
        at + "eh_proj.weight": model.mtp.eh_proj,
        at + "shared_head.norm.weight": model.mtp.norm,
    }
    tensors |= {"model.norm.weight": model.norm, "lm_head.weight": model.head}
    return {name: tensor.detach() for name, tensor in tensors.items()}


def layer_tensors(at: str, layer: Layer) -> dict[str, Tensor]:
    attention, indexer = layer.attention, layer.attention.indexer
    tensors = {
        at + "input_layernorm.weight": layer.attention_norm,
        at + "post_attention_layernorm.weight": layer.ffn_norm,
        at + "self_attn.q_a_proj.weight": attention.q_a_proj,
        at + "self_attn.q_a_layernorm.weight": attention.q_a_norm,
        at + "self_attn.q_b_proj.weight": attention.q_b_proj,
        at + "self_attn.kv_a_proj_with_mqa.weight": attention.kv_a_proj,
        at + "self_attn.kv_a_layernorm.weight": attention.kv_a_norm,
        at + "self_attn.kv_b_proj.weight": attention.kv_b_proj,
        at + "self_attn.o_proj.weight": attention.o_proj,
        at + "self_attn.indexer.wq_b.weight": indexer.wq_b,
        at + "self_attn.indexer.wk.weight": indexer.wk,
        at + "self_attn.indexer.k_norm.weight": indexer.k_norm_weight,
        at + "self_attn.indexer.k_norm.bias": indexer.k_norm_bias,
        at + "self_attn.indexer.weights_proj.weight": indexer.weights_proj,
    }
    return tensors | ffn_tensors(at + "mlp.", layer.ffn)


def cast(tensors: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """All in `dtype` but the router's correction bias, which the format keeps in fp32."""
    return {
        name: tensor.to(torch.float32 if "correction_bias" in name else dtype).contiguous()
        for name, tensor in tensors.items()
    }


def ffn_tensors(at: str, ffn) -> dict[str, Tensor]:
    if not isinstance(ffn, MoeFfn):
        return {
            f"{at}{name}.weight": getattr(ffn, name)
            for name in ("gate_proj", "up_proj", "down_proj")
        }
    tensors = {at + "gate.weight": ffn.router, at + "gate.e_score_correction_bias": ffn.router_bias}
    width, num_experts = ffn.shape.expert_width, ffn.shape.num_experts
    for e in range(num_experts + 1):
        name = f"{at}experts.{e}." if e < num_experts else f"{at}shared_experts."
        hidden = slice(e * width, (e + 1) * width)
        tensors[name + "gate_proj.weight"] = ffn.gate_proj[hidden]
        tensors[name + "up_proj.weight"] = ffn.up_proj[hidden]
        tensors[name + "down_proj.weight"] = ffn.down_proj[:, hidden]
    return tensors


def write_shards(tensors: dict[str, Tensor], folder: Path) -> None:
    """Consecutive tensors in NUM_SHARDS files of about equal size, and their index."""
    sizes = {name: tensor.numel() * tensor.element_size() for name, tensor in tensors.items()}
    total, weight_map, shards, done = sum(sizes.values()), {}, [{} for _ in range(NUM_SHARDS)], 0
    for name, tensor in tensors.items():
        number = min(done * NUM_SHARDS // total, NUM_SHARDS - 1)
        shards[number][name] = tensor
        weight_map[name] = f"model-{number + 1:05d}-of-{NUM_SHARDS:05d}.safetensors"
        done += sizes[name]
    for number, shard in enumerate(shards):
        name = f"model-{number + 1:05d}-of-{NUM_SHARDS:05d}.safetensors"
        save_file(shard, str(folder / name), metadata={"format": "pt"})
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    write_json(folder / "model.safetensors.index.json", index)


def export(model: Model, tokenizer: Tokenizer, out: Path, dtype=torch.bfloat16) -> None:
    out.mkdir(parents=True, exist_ok=True)
    ids = special_ids(tokenizer)
    config = to_config_json(model.shape, ids)
    if dtype == torch.float32:
        config["dtype"] = "float32"
    write_json(out / "config.json", config)
    generation = {
        "do_sample": False,
        "eos_token_id": config["eos_token_id"],
        "pad_token_id": config["pad_token_id"],
        "transformers_version": config["transformers_version"],
    }
    write_json(out / "generation_config.json", generation)
    write_tokenizer_files(tokenizer, out, model.shape.max_positions)
    write_shards(cast(checkpoint_tensors(model), dtype), out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(options.data / "tokenizer.json"))
    export(load_weights(options.weights), tokenizer, options.out)


if __name__ == "__main__":
    main()
