# SPDX-License-Identifier: Apache-2.0
"""Rounds of drafts in plain numpy: the MTP layer over a whole text, a round beginning at every row.

Row t joins the target's final hidden state at position t with the token at t + 1 and predicts token
t + 2. Later steps are fed with the text's own tokens, attend over what row t saw, and leave no keys.
`Mistakes` are those that engines made; tests show that each of them would be noticed.
"""

from dataclasses import dataclass

import numpy as np
import tools_path  # noqa: F401
from checkpoint.share_plan import mlp_types
from numpy_forward import NumpyModel, rms_norm, rope_table, selection_mask


@dataclass
class Mistakes:
    targets_selection: bool = False  # later steps attend with the target's last selection
    last_row: bool = False  # later steps attend with the selection of the next row
    other_hidden: bool = (
        False  # later steps take the hidden state before the norm (GLM), or after it
    )
    token_at_0: bool = False  # the embedding at position 0 counts


class NumpyDrafts(NumpyModel):
    def drafts(self, tokens, num_steps, share, mistakes=None):
        """tokens [n] -> list of num_steps arrays: step s [n - s, vocab], row t of the round at t."""
        mistakes = mistakes or Mistakes()
        n, last = len(tokens), self.config["num_hidden_layers"]
        self._prefix = f"model.layers.{last}."
        attention, indexer = self._prefix + "self_attn.", self._prefix + "self_attn.indexer."
        target = self.forward(tokens)
        table = rope_table(self.config, n + num_steps, self._dtype)

        def at(first, count):
            return tuple(part[first : first + count] for part in table)

        rows = n - 1
        first_token = 0 if mistakes.token_at_0 else 1
        x = self._join(tokens[1:], target.hidden[:-1], first_token)
        a, r = self._attention_input(self._prefix, x)
        memory = self._memory(attention, a, at(0, rows))
        keys = self._index_keys(indexer, a, at(0, rows))
        chosen = self._choose(indexer, a, r, at(0, rows), keys)
        hidden, logits = self._finish(
            x, r, at(0, rows), memory, selection_mask(chosen, rows), mistakes
        )
        result = [logits]
        kept = chosen
        if mistakes.targets_selection:
            kept = target.selections[-1]
        elif mistakes.last_row:
            kept = np.concatenate([chosen[1:], chosen[-1:]])
        for step in range(2, num_steps + 1):
            rows = n - step
            x = self._join(tokens[step:], hidden[:rows], 0)
            a, r = self._attention_input(self._prefix, x)
            positions = at(step - 1, rows)
            if not share:
                kept = self._choose(indexer, a, r, positions, keys[:rows])
            visible = selection_mask(kept[:rows], n - 1)
            hidden, logits = self._finish(x, r, positions, memory, visible, mistakes)
            result.append(logits)
        return result

    def _join(self, tokens, hidden, first_token):
        """[m] and [m, hidden] -> [m, hidden]; the embeddings before first_token are zero."""
        eps = self.config["rms_norm_eps"]
        e = self._weight("model.embed_tokens.weight")[tokens]
        e[:first_token] = 0
        e = rms_norm(e, self._weight(self._prefix + "enorm.weight"), eps)
        h = rms_norm(hidden, self._weight(self._prefix + "hnorm.weight"), eps)
        return self._linear(np.concatenate([e, h], -1), self._prefix + "eh_proj")

    def _finish(self, x, r, table, memory, visible, mistakes):
        """-> what the next step takes for the hidden state, logits."""
        x = x + self._attend(self._prefix + "self_attn.", r, table, memory, visible)
        x = x + self._feed_forward(self._prefix, x, mlp_types(self.config)[-1])
        weight = self._weight(self._prefix + "shared_head.norm.weight")
        y = rms_norm(x, weight, self.config["rms_norm_eps"])
        normed = (self.config["model_type"] == "glm_moe_dsa") != mistakes.other_hidden
        return y if normed else x, self._head(y)
