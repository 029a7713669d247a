"""How long the longest training row and the longest prompt are, in tokens: read where that is cheap, else bounded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import NotAvailable, reason_of
from harness.prompt_formats import render
from harness.random_weights import STAND_IN_TOKENIZER
from harness.suite import Model, PromptFormat, Training
from harness.suite_file import LoadedSuite
from harness.workloads.training_data import load_rows

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LONGEST_TEXTS = 200
"""Texts that are tokenized: those with the most characters."""
TEMPLATE_TOKENS = 64
"""Allowed for what a chat template adds to a message; running the template would need the whole tokenizer."""


@dataclass(frozen=True)
class Length:
    """Tokens of the longest text, and how that is known."""

    tokens: int
    how: str


def longest_row(loaded: LoadedSuite, training: Training, model: Model) -> Length:
    """Return the longest row of a training step after cutting, BOS and EOS included."""
    longest = training.max_seq_length
    if training.trainer.packing:
        return Length(longest, "packed rows of max_seq_length")
    tokenizer = _tokenizer(loaded, model)
    if training.data.path is None or tokenizer is None:
        missing = "the rows are on a hub" if training.data.path is None else "the tokenizer is not at hand"
        return Length(longest, f"max_seq_length, an upper bound: {missing}")
    rows = load_rows(training.data, str(loaded.resolve(training.data.path))).rows
    form = training.data.prompt_format
    texts = [_text(form, row.instruction, row.input) + row.output for row in rows]
    return Length(min(_most_tokens(texts, form, tokenizer) + 2, longest), "the longest row")


def longest_prompt(loaded: LoadedSuite, model: Model) -> Length:
    """Return the longest prompt that a model is asked, BOS included."""
    room = model.max_seq_length - loaded.suite.sampling.max_new_tokens
    tokenizer = _tokenizer(loaded, model)
    texts = [_text(model.prompt_format, prompt.text) for prompt in loaded.prompts]
    if tokenizer is None:
        # Byte-level tokenizers make at most one token of a byte.
        bound = max(len(text.encode()) for text in texts) + TEMPLATE_TOKENS
        return Length(min(bound, room), "a token per byte, an upper bound: the tokenizer is not at hand")
    return Length(min(_most_tokens(texts, model.prompt_format, tokenizer) + 1, room), "the longest prompt")


def _text(form: PromptFormat, instruction: str, extra: str = "") -> str:
    return render("plain" if form == "chat_template" else form, instruction, extra)


def _most_tokens(texts: list[str], form: PromptFormat, tokenizer: Tokenizer) -> int:
    longest = sorted(texts, key=len, reverse=True)[:LONGEST_TEXTS]
    encoded = tokenizer.encode_batch(longest, add_special_tokens=False)
    return max(len(one.ids) for one in encoded) + (TEMPLATE_TOKENS if form == "chat_template" else 0)


def _tokenizer(loaded: LoadedSuite, model: Model) -> Tokenizer | None:
    """Return the model's fast tokenizer from its folder or the local hub cache."""
    from tokenizers import Tokenizer

    file = _local_file(loaded.locate(model.path), "tokenizer.json", model.revision)
    if file is None and model.weights == "random":
        file = STAND_IN_TOKENIZER / "tokenizer.json"
    return None if file is None else Tokenizer.from_file(str(file))


def _local_file(place: str, name: str, revision: str | None) -> Path | None:
    if Path(place).is_absolute():
        file = Path(place) / name
        return file if file.is_file() else None
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(place, name, revision=revision)
    return Path(cached) if isinstance(cached, str) else None


def read_adapter_config(place: str, revision: str | None) -> dict[str, Any] | None:
    """Return the adapter_config.json of a local adapter, or of one in the local hub cache.

    Raises `NotAvailable` where it is not one of LoRA.
    """
    file = _local_file(place, "adapter_config.json", revision)
    if file is None:
        return None
    try:
        config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return {"r": int(config["r"]), "target_modules": config["target_modules"]}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise NotAvailable(f"{file}: it is not the configuration of a LoRA adapter: {reason_of(error)}") from error
