"""Synthetic training rows of known token lengths, the same for every backend."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

from tests.gpu.configurations import LONG_ROW_TOKENS, SHORT_ROW_TOKENS, SHORT_ROWS_SEED, Configuration

ROWS = 512
SYLLABLES = "가나다라마바사아자차카타파하고노도로모보소오조초코토포호"


def write_rows(folder: Path, model: Path, configuration: Configuration) -> Path:
    """Write the rows that the configuration trains on, unless they are there, and return their file.

    Long rows are longer than the limit and are cut there, so that each has exactly that many tokens.
    """
    from harness.backends.hf import load_tokenizer
    from harness.suite import Model

    file = folder / f"rows-{configuration.rows}.jsonl"
    if file.exists():
        return file
    generator = random.Random(SHORT_ROWS_SEED)
    tokenizer = load_tokenizer(Model(path=str(model)), str(model))
    if configuration.rows == "long":
        lengths = [LONG_ROW_TOKENS + 16] * 64
    else:
        lengths = [generator.randint(*SHORT_ROW_TOKENS) for _ in range(ROWS)]
    lines = [json.dumps(row_of(length, tokenizer, generator), ensure_ascii=False) for length in lengths]
    partial = file.with_suffix(f".{os.getpid()}")  # others may write the same rows now
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.replace(file)
    return file


def row_of(length: int, tokenizer: Any, generator: random.Random) -> dict[str, str]:
    """Return a row that becomes about `length` tokens, prompt and end token included: never fewer, at most 8 more."""
    from harness.prompt_formats import render

    instruction = "다음 글자를 이어서 써 주세요."
    prompt = render("alpaca_ko", instruction, "", tokenizer)
    words: list[str] = []

    def count() -> int:
        return len(tokenizer(prompt + " ".join(words))["input_ids"]) + 1

    while (missing := length - count()) > 0:
        # A word is 1 to 8 tokens in any tokenizer that knows Korean, or its bytes.
        words += ["".join(generator.choices(SYLLABLES, k=2)) for _ in range(max(1, missing // 8))]
    return {"instruction": instruction, "input": "", "output": " ".join(words)}
