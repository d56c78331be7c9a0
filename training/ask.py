# SPDX-License-Identifier: Apache-2.0
"""Plants a fact in any text and asks for it, through the chat template, under both plans.

    python ask.py ../models/indexshare-tiny --text FILE [--text FILE ...] --length 8192 --depth 0.4 \\
        --fact "The secret code of the lighthouse keeper is 48213." \\
        --question "What is the secret code of the lighthouse keeper?"
"""

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from import_checkpoint import import_checkpoint
from long_context import LongContext
from model import Model
from tokenizer import CHAT_TEMPLATE

STOP_TOKENS = ("<|endoftext|>", "<|user|>", "<|observation|>")


def repeat_to(tokenizer: Tokenizer, text: str, num_tokens: int) -> str:
    """The text's first num_tokens tokens; a shorter text is repeated."""
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    ids = (ids * (num_tokens // len(ids) + 1))[:num_tokens]
    return tokenizer.decode(ids, skip_special_tokens=False)


def plant(text: str, fact: str, depth: float) -> str:
    """The fact as a line of its own after `depth` of the lines."""
    lines = text.split("\n")
    lines.insert(int(len(lines) * depth), fact)
    return "\n".join(lines)


def prompt_ids(tokenizer: Tokenizer, text: str, question: str) -> list[int]:
    messages = [{"role": "user", "content": f"{text}\n\n{question}"}]
    rendered, _ = render_jinja_template(
        conversations=[messages], chat_template=CHAT_TEMPLATE, add_generation_prompt=True
    )
    return tokenizer.encode(rendered[0], add_special_tokens=False).ids


@torch.no_grad()
def generate(model: Model, tokenizer: Tokenizer, ids: list[int], plan: str, limit: int = 24) -> str:
    """Greedy answer; the special token that ends it is left out."""
    device = model.embed.device
    runner = LongContext(model, plan)
    stops = {tokenizer.token_to_id(name) for name in STOP_TOKENS}
    hidden, cache = runner.extend(runner.empty(), torch.tensor(ids, device=device))
    answer: list[int] = []
    while len(answer) < limit:
        best = int((model.head @ hidden[-1].to(model.head.dtype)).argmax())
        if best in stops:
            break
        answer.append(best)
        hidden, cache = runner.extend(cache, torch.tensor([best], device=device))
    return tokenizer.decode(answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--text", type=Path, action="append", required=True)
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--depth", type=float, default=0.4)
    parser.add_argument("--fact", required=True)
    parser.add_argument("--question", required=True)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = import_checkpoint(options.model).to(device).eval()
    tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    text = "\n".join(path.read_text(encoding="utf-8") for path in options.text)
    text = plant(repeat_to(tokenizer, text, options.length - 100), options.fact, options.depth)
    ids = prompt_ids(tokenizer, text, options.question)
    for plan in (model.shape.plan, "F" * model.shape.num_layers):
        print(f"{plan} {len(ids)} tokens:{generate(model, tokenizer, ids, plan)}", flush=True)


if __name__ == "__main__":
    main()
