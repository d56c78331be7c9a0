# SPDX-License-Identifier: Apache-2.0
"""Which layers own an indexer: indexer_types > index_topk_pattern > freq and offset."""

WORDS = {"F": "full", "S": "shared", "full": "full", "shared": "shared"}


def indexer_types(config):
    """List of "full" / "shared", one for each layer of config (a dict)."""
    num_layers = config["num_hidden_layers"]
    if config["model_type"] != "glm_moe_dsa":
        return ["full"] * num_layers
    listed = config.get("indexer_types") or config.get("index_topk_pattern")
    if listed:
        return [WORDS[entry] for entry in listed]
    freq = max(config.get("index_topk_freq") or 1, 1)
    offset = config.get("index_skip_topk_offset")
    offset = 2 if offset is None else offset
    return ["full" if max(i - offset + 1, 0) % freq == 0 else "shared" for i in range(num_layers)]


def mlp_types(config):
    """List of "dense" / "sparse" (mixture of experts), one for each layer."""
    num_layers = config["num_hidden_layers"]
    if config.get("mlp_layer_types"):
        return list(config["mlp_layer_types"])
    num_dense = min(config.get("first_k_dense_replace", 3), num_layers)
    return ["dense"] * num_dense + ["sparse"] * (num_layers - num_dense)


def apply_overrides(config, overrides):
    """config with the keys of --hf-overrides; a pattern imposed beats a list in the file."""
    config = {**config, **(overrides or {})}
    overridden = set(overrides or ())
    if "indexer_types" not in overridden and overridden & {"index_topk_pattern", "index_topk_freq"}:
        config.pop("indexer_types", None)
        if "index_topk_pattern" not in overridden:
            config.pop("index_topk_pattern", None)
    return config
