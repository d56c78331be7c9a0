#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/text/data/*.tokenizer.json and the token ids that Hugging Face `tokenizers` gives for them.

    python3 tools/make_tokenizer_goldens.py            goldens for the tokenizers that are there
    python3 tools/make_tokenizer_goldens.py --train    train the four small tokenizers first

Each has the pre-tokenizer, post-processor, decoder and added tokens of one family (GLM-4 to GLM-5, DeepSeek-V3,
GPT-2, Llama-3) and a vocabulary of a few hundred pieces trained on the text below. Needs tokenizers >= 0.21 and a
Python whose unicodedata is of Unicode 14 or later.
"""

import argparse
import json
import pathlib
import struct
import unicodedata

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)

DATA = pathlib.Path(__file__).resolve().parent.parent / "tests" / "text" / "data"

TRAINING_TEXT = """
The indexer scores every earlier token and keeps the best; attention then reads only those. Layers that follow share
the selection, so that the scores are computed once for a group of layers and not again in each of them. They're
cheaper, it's said, and we'll see that they don't lose what a reader would've found. I'm sure you'd agree.
In 1998 there were 1234567 of them, 42 or 3.14159 each, and 10,000 more by 2024.
def forward(self, hidden_states, position_ids=None):
    if position_ids is None:
        position_ids = torch.arange(hidden_states.shape[1], device=hidden_states.device)
    return self.model(hidden_states, position_ids)  # the same tensor, not a copy
for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; }
{"role": "user", "content": "Hello, world!", "tools": [], "temperature": 0.7}
稀疏注意力机制只读取被选中的词元。索引器为每一层打分，后面的层共享同样的选择。今天天气很好，我们去公园散步吧。
これは日本語の文章です。トークナイザーのテストをしています。ひらがなとカタカナと漢字。
Это предложение на русском языке, чтобы проверить кириллицу. Как дела? Хорошо, спасибо.
Ελληνικά: καλημέρα κόσμε. Français: déjà vu, où êtes-vous ? Deutsch: Straße, Größe, schön.
العربية: مرحبا بالعالم. עברית: שלום עולם. हिन्दी: नमस्ते दुनिया। ไทย: สวัสดีชาวโลก 한국어: 안녕하세요 세계
Emoji: 😀 😃 👍🏽 👨‍👩‍👧‍👦 🇩🇪 ❤️ and maths: ∑ ∫ √ ≠ ≤ α β γ → ⇒ ½ ² ³
"""

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
CL100K = (
    CONTRACTIONS
    + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
DEEPSEEK = (
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
)


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated", invert=False)


def byte_level(use_regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=use_regex)


def special(content):
    return AddedToken(content, special=True, normalized=False)


def plain(content, normalized=False, **flags):
    return AddedToken(content, special=False, normalized=normalized, **flags)


def families():
    """name -> (pre-tokenizer, added tokens, ignore_merges, post-processor or a function of the tokenizer)."""
    glm = [
        "<|endoftext|>",
        "[MASK]",
        "[gMASK]",
        "[sMASK]",
        "<sop>",
        "<eop>",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|observation|>",
    ]
    glm_plain = [
        "/nothink",
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "<arg_key>",
        "</arg_key>",
        "<arg_value>",
        "</arg_value>",
    ]
    deepseek = [
        special("<｜begin▁of▁sentence｜>"),
        special("<｜end▁of▁sentence｜>"),
        special("<｜▁pad▁｜>"),
        plain("<think>", True),
        plain("</think>", True),
        plain("<｜User｜>", True),
        plain("<｜Assistant｜>", True),
        plain("<｜tool▁calls▁begin｜>", True),
        special("<|EOT|>"),
    ]
    llama = [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eom_id|>",
        "<|eot_id|>",
        "<|python_tag|>",
    ]

    def llama_processor(tokenizer):
        bos = "<|begin_of_text|>"
        template = processors.TemplateProcessing(
            single=f"{bos} $A",
            pair=f"{bos} $A {bos}:1 $B:1",
            special_tokens=[(bos, tokenizer.token_to_id(bos))],
        )
        return processors.Sequence([processors.ByteLevel(trim_offsets=False), template])

    trim = processors.ByteLevel(trim_offsets=False)
    return {
        "glm": (
            pre_tokenizers.Sequence([split(CL100K), byte_level(False)]),
            [special(t) for t in glm] + [plain(t) for t in glm_plain],
            False,
            lambda _: trim,
        ),
        "deepseek": (
            pre_tokenizers.Sequence([split(p) for p in DEEPSEEK] + [byte_level(False)]),
            deepseek,
            False,
            lambda _: trim,
        ),
        "gpt2": (
            byte_level(True),
            [
                AddedToken("<|endoftext|>", special=True, normalized=True),
                plain("wordy", single_word=True),
                plain("<l>", lstrip=True),
                plain("<r>", rstrip=True),
                plain("<lr>", lstrip=True, rstrip=True),
                plain("<"),
                plain("<lrx"),
                plain("attent", normalized=True),
            ],
            False,
            lambda _: trim,
        ),
        "llama3": (
            pre_tokenizers.Sequence([split(CL100K), byte_level(False)]),
            [special(t) for t in llama],
            True,
            llama_processor,
        ),
    }


def train(name, description):
    pre_tokenizer, added, ignore_merges, processor = description
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    first = (
        ["<|endoftext|>"] if name == "gpt2" else []
    )  # GPT-2 keeps its special token inside the vocabulary
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=first,
        show_progress=False,
    )
    tokenizer.train_from_iterator([TRAINING_TEXT], trainer)
    tokenizer.add_tokens(added)
    tokenizer.post_processor = processor(tokenizer)
    document = json.loads(tokenizer.to_str())
    if name == "llama3":  # a long piece that merges alone never make, which ignore_merges finds
        document["model"]["merges"] = document["model"]["merges"][:-60]
    if name == "gpt2":  # the older encoding of merges
        document["model"]["merges"] = [" ".join(m) for m in document["model"]["merges"]]
    (DATA / f"{name}.tokenizer.json").write_text(
        json.dumps(document, ensure_ascii=False, indent=0) + "\n"
    )


def texts(tokenizer_document):
    added = [t["content"] for t in tokenizer_document["added_tokens"]]
    cases = [
        "",
        " ",
        "  ",
        "a",
        " a",
        "a ",
        "\n",
        "\n\n",
        " \n",
        "\n ",
        "\r\n",
        "\r",
        "\t\tx",
        "   x",
        "x   ",
        "x \n\n y",
        "\u00a0x\u00a0\u3000y\u180ez\u2028w\u0085v\u200bu",
        "Hello, world!",
        "hello world  hello   world",
        "They're HERE'S I'LL 'tis rock'n'roll 'S 'ſ it’s",
        "0 12 123 1234 12345 1234567890 ١٢٣٤٥ ½ ² ⅷ 一二三",
        "don't stop!!! (really?) [yes] {ok} <tag> a_b-c+d=e/f\\g",
        "naïve café déjà vu e\u0301 Å Å ﬁ Ǆ",
        "今天天气很好，我们去公园散步吧。abc今天123天",
        "これは日本語の文章です。カタカナ 漢字abc",
        "안녕하세요 세계",
        "Привет, как дела? Ёлка",
        "مرحبا بالعالم שלום",
        "नमस्ते दुनिया। สวัสดีชาวโลก",
        "👍🏽👨‍👩‍👧‍👦🇩🇪❤️ 😀😀",
        "\U0001f1e9\U0001f1ea \ufe0f\u20e3",
        "\u0000\u0001\u007f\u0080\ufeff\ufffd\ufffe\U0010ffff",
        "a\u0300\u0301\u0302b \u0300c",
        "x" * 100,
        "ab" * 60,
        " " * 50 + "x",
        "\n" * 30,
        "\t \n" * 10,
        "the selection the scores the layers " * 5,
        "12" * 30,
        "!?" * 30,
        "    if position_ids is None:\n        return self.model(x)\n\n\n",
        TRAINING_TEXT,
        TRAINING_TEXT.upper(),
    ]
    for token in added:
        cases += [
            token,
            f"a{token}b",
            f" {token} ",
            f"x  {token}\n y",
            token + token,
            token[:-1],
            token[1:],
        ]
    cases.append(" and ".join(added))
    cases.append("".join(added))
    return cases


def fnv(hash_value, ids):
    for byte in struct.pack(f"<{len(ids)}i", *ids):
        hash_value = ((hash_value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return hash_value


def assigned_ranges():
    """Code points assigned in Unicode 14, without surrogates and private use, as [first, last]."""
    database = unicodedata
    ranges = []
    for code in range(0x110000):
        if database.category(chr(code)) in ("Cn", "Cs", "Co"):
            continue
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return ranges


def torture_text(code):
    c = chr(code)
    return f"a{c}b {c}{c}1{c} \n{c}'s{c}"


def torture_hashes(tokenizer, ranges):
    hashes = []  # one for every 1024 code points that has any
    block, value = None, 0
    for first, last in ranges:
        for code in range(first, last + 1):
            if code // 1024 != block:
                if block is not None:
                    hashes.append([block, f"{value:016x}"])
                block, value = code // 1024, 0xCBF29CE484222325
            value = fnv(value, tokenizer.encode(torture_text(code), add_special_tokens=False).ids)
    hashes.append([block, f"{value:016x}"])
    return hashes


def variants(document):
    """Pre-tokenizers no family of ours has, on the GPT-2 vocabulary."""
    last = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
    found = [
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": True}, last],
        },
        {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Digits", "individual_digits": False},
                {**last, "add_prefix_space": True},
            ],
        },
    ]
    patterns = [
        {"Regex": r"\s+"},
        {"String": "a."},
        {"Regex": r"[aeiou]"},
        {"Regex": r"(?=[A-Z])"},
        {"Regex": r"\w+|\W"},
        {"Regex": r"[\w\h]+(?<=e)"},
    ]
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        for invert in (False, True):
            for pattern in patterns:
                step = {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}
                found.append({"type": "Sequence", "pretokenizers": [step, last]})
    samples = [
        "",
        " ",
        "Hello World, aeiou. banana. a.a. x",
        "In 1998 there were 1234567 of them",
        "  two  spaces  ",
        "camelCaseString HTTPServer",
        "naïve ١٢٣ 今天 x\u0301y \u180e z",
    ]
    result = []
    for pre_tokenizer in found:
        tokenizer = Tokenizer.from_str(json.dumps({**document, "pre_tokenizer": pre_tokenizer}))
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in samples]
        result.append({"pre_tokenizer": pre_tokenizer, "ids": ids})
    return {"texts": samples, "variants": result}


def write_goldens(name, ranges):
    text = (DATA / f"{name}.tokenizer.json").read_text()
    document = json.loads(text)
    tokenizer = Tokenizer.from_str(text)
    no_added = Tokenizer.from_str(
        json.dumps({**document, "added_tokens": [], "post_processor": None})
    )
    cases = []
    for case in texts(document):
        ids = tokenizer.encode(case, add_special_tokens=False).ids
        cases.append(
            {
                "text": case,
                "ids": ids,
                "as_text": no_added.encode(case, add_special_tokens=False).ids,
                "with_special": tokenizer.encode(case).ids,
                "decoded": tokenizer.decode(ids, skip_special_tokens=False),
                "decoded_skip": tokenizer.decode(ids, skip_special_tokens=True),
            }
        )
    every_third = list(range(0, tokenizer.get_vocab_size(), 3)) + [10**6]
    golden = {
        "cases": cases,
        "broken": {
            "ids": every_third,
            "decoded": tokenizer.decode(every_third, skip_special_tokens=False),
        },
        "vocab_size": tokenizer.get_vocab_size(),
        "million_a": f"{fnv(0xCBF29CE484222325, tokenizer.encode('a' * 1000000, add_special_tokens=False).ids):016x}",
        "ranges": ranges,
        "hashes": torture_hashes(tokenizer, ranges),
    }
    if name == "gpt2":
        golden["variants"] = variants(document)
    (DATA / f"{name}.golden.json").write_text(
        json.dumps(golden, ensure_ascii=True, separators=(",", ":")) + "\n"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", action="store_true", help="train the tokenizers anew")
    arguments = parser.parse_args()
    DATA.mkdir(parents=True, exist_ok=True)
    ranges = assigned_ranges()
    for name, description in families().items():
        if arguments.train:
            train(name, description)
        write_goldens(name, ranges)


if __name__ == "__main__":
    main()
