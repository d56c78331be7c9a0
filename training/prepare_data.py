# SPDX-License-Identifier: Apache-2.0
"""Texts to token arrays: trains the tokenizer, encodes books and code, lists words for facts.

    python prepare_data.py --books DIR --code DIR [--code DIR ...] --out DATA
    python prepare_data.py --books DIR --tokenizer MODEL/tokenizer.json --out DATA    # to ask MODEL

DATA receives tokenizer.json, {book,code}_{train,val}.npy (uint16), {words,nouns,names}.txt and
sources.json (every file read, with its SHA-256).
"""

import argparse
import hashlib
import json
import random
import re
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from facts import FactMaker
from lexicon import Lexicon
from tokenizer import train_tokenizer

VALIDATION_BOOKS = ("pride-and-prejudice", "sherlock-holmes")
CODE_SUFFIXES = {".py", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp", ".md", ".rst"}
README_IN_PACKAGE = "METADATA"
MAX_FILE_BYTES = 200_000
NUM_SAMPLE_FACTS = 48_000
MAX_VOCABULARY = 2**16  # token arrays are uint16


def read_books(folder: Path) -> tuple[dict[Path, str], dict[Path, str]]:
    train, validation = {}, {}
    for path in sorted(folder.glob("*.txt")):
        held_out = any(name in path.name for name in VALIDATION_BOOKS)
        (validation if held_out else train)[path] = path.read_text(encoding="utf-8")
    if not train or not validation:
        names = " or ".join(VALIDATION_BOOKS)
        raise SystemExit(
            f"{folder}: expected books as *.txt, some of them named after {names} for validation, "
            f"found {len(train)} others and {len(validation)} of these"
        )
    return train, validation


def read_code(folders: list[Path], max_bytes: int) -> tuple[dict[Path, str], dict[Path, str]]:
    """About an equal share of each folder; 1 file in 32, chosen by its hash, is validation."""
    train, validation = {}, {}
    for folder in folders:
        paths = [
            path
            for path in folder.rglob("*")
            if (path.suffix in CODE_SUFFIXES or path.name == README_IN_PACKAGE) and path.is_file()
        ]
        paths.sort(key=lambda path: hashlib.sha256(str(path.relative_to(folder)).encode()).digest())
        left = max_bytes // len(folders)
        for path in paths:
            if not 500 < path.stat().st_size < MAX_FILE_BYTES:
                continue
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            digest = hashlib.sha256(text.encode()).digest()
            (validation if digest[0] % 32 == 0 else train)[path] = text
            left -= len(text)
            if left < 0:
                break
    return train, validation


def sample_facts(lexicon: Lexicon, count: int) -> str:
    """Generated facts and questions, so that the tokenizer knows their words."""
    facts = FactMaker(random.Random(count), lexicon, held_out=False)
    lines = [
        " ".join((*item.sentences, item.question, item.value))
        for _ in range(count // 16)
        for item in facts.make(16)
    ]
    return "\n".join(lines)


def encode(tokenizer, texts: list[str]) -> np.ndarray:
    pieces = []
    for text in texts:
        chunks = re.split(r"(?<=\n)(?=\S)", text)
        lines = ["".join(chunks[i : i + 200]) for i in range(0, len(chunks), 200)]
        for encoding in tokenizer.encode_batch_fast(lines):
            pieces.append(np.array(encoding.ids, dtype=np.uint16))
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.uint16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--books", type=Path, required=True)
    parser.add_argument("--code", type=Path, action="append", default=[])
    parser.add_argument("--code-bytes", type=int, default=24_000_000)
    parser.add_argument("--vocab-size", type=int, default=4096)
    parser.add_argument("--tokenizer", type=Path, help="encode with this one instead of a new one")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    for folder in options.code:
        if not folder.is_dir():
            parser.error(f"--code: expected a folder, found none at {folder}")
    tokenizer = None
    if options.tokenizer:
        if not options.tokenizer.is_file():
            parser.error(
                f"--tokenizer: expected a tokenizer.json, found no file {options.tokenizer}"
            )
        tokenizer = Tokenizer.from_file(str(options.tokenizer))
        if tokenizer.get_vocab_size() > MAX_VOCABULARY:
            found = tokenizer.get_vocab_size()
            parser.error(f"--tokenizer: expected at most {MAX_VOCABULARY} tokens, found {found}")
    prepare(
        books=options.books,
        code=options.code,
        code_bytes=options.code_bytes,
        vocab_size=options.vocab_size,
        out=options.out,
        tokenizer=tokenizer,
    )


def prepare(
    books: Path,
    code: list[Path],
    code_bytes: int,
    vocab_size: int,
    out: Path,
    tokenizer: Tokenizer | None = None,
) -> None:
    book_train, book_val = read_books(books)
    out.mkdir(parents=True, exist_ok=True)
    code_train, code_val = read_code(code, code_bytes)
    lexicon = Lexicon.of(list(book_train.values()))
    if tokenizer is None:
        sample = [text[:1_000_000] for text in book_train.values()]
        sample += list(code_train.values())[::2]
        sample += [sample_facts(lexicon, NUM_SAMPLE_FACTS)]
        tokenizer = train_tokenizer(sample, vocab_size)
    tokenizer.save(str(out / "tokenizer.json"))
    splits = {
        "book_train": book_train,
        "book_val": book_val,
        "code_train": code_train,
        "code_val": code_val,
    }
    for name, texts in splits.items():
        tokens = encode(tokenizer, list(texts.values()))
        np.save(out / f"{name}.npy", tokens)
        print(f"{name}: {len(texts)} files, {len(tokens)} tokens")
    lexicon.save(out)
    sources = {
        name: {path.name: hashlib.sha256(text.encode()).hexdigest() for path, text in texts.items()}
        for name, texts in splits.items()
    }
    (out / "sources.json").write_text(json.dumps(sources, indent=1) + "\n", encoding="utf-8")
    counts = ", ".join(f"{len(words)} {name}" for name, words in vars(lexicon).items())
    print(f"{counts}, vocabulary {tokenizer.get_vocab_size()}")


if __name__ == "__main__":
    main()
