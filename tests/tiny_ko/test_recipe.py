"""The recipe on a miniature scale, on the CPU: repeatable, and what it feeds the model is what the model is asked."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.prompt_formats import adds_special_tokens, render
from harness.tiny_ko import MODEL_FOLDER
from harness.tiny_ko.corpus import Row, load_lexicon, make_rows
from harness.tiny_ko.recipe import Recipe, batches, build, encode, new_model, train
from harness.tiny_ko.tokenizer import train_tokenizer

MINIATURE = replace(
    Recipe(), rows=300, epochs=1, tokens_per_batch=4_096, warmup_steps=2, vocabulary_size=600, hidden_size=32,
    intermediate_size=64, layers=1, heads=2,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def on_the_cpu() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield


@pytest.fixture(scope="module")
def corpus_rows() -> list[Row]:
    return list(make_rows(load_lexicon(), 400, 5))


@pytest.fixture(scope="module")
def tokenizer(corpus_rows: list[Row]) -> Any:
    return train_tokenizer([text for row in corpus_rows for text in (row.instruction, row.output)], 600, 512)


def test_the_same_seed_makes_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    made = {}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        facts = build(replace(MINIATURE, seed=seed), tmp_path / name)
        made[name] = {file: (tmp_path / name / file).read_bytes() for file in ("model.safetensors", "tokenizer.json")}
        assert facts["steps"] > 1
        assert json.loads((tmp_path / name / "recipe.json").read_text())["recipe"]["seed"] == seed
    assert made["first"] == made["again"]
    assert made["first"]["model.safetensors"] != made["other"]["model.safetensors"]


def test_the_same_seed_draws_the_same_rows_and_another_seed_others() -> None:
    lexicon = load_lexicon()
    assert list(make_rows(lexicon, 200, 1)) == list(make_rows(lexicon, 200, 1))
    assert list(make_rows(lexicon, 200, 1)) != list(make_rows(lexicon, 200, 2))


def test_training_learns(corpus_rows: list[Row], tokenizer: Any) -> None:
    torch.manual_seed(0)
    recipe = replace(MINIATURE, epochs=30, learning_rate=1e-2)
    loss, steps, tokens = train(new_model(recipe, tokenizer), encode(corpus_rows[:20], tokenizer, recipe), recipe)
    assert steps == 30
    assert tokens > 30 * 20 * 20
    assert loss < math.log(600) / 2  # a model that knows nothing has log(vocabulary)


def test_questions_are_encoded_as_they_are_asked_at_run_time(corpus_rows: list[Row], tokenizer: Any) -> None:
    examples = encode(corpus_rows, tokenizer, replace(MINIATURE, split_noise=0.0))
    forms: Counter[str] = Counter()
    for row, example in zip(corpus_rows, examples, strict=True):
        ids = example.ids.tolist()
        assert ids[example.answer_start :] == [
            *tokenizer(row.output, add_special_tokens=False)["input_ids"],
            tokenizer.eos_token_id,
        ]
        forms[form_of(ids[: example.answer_start], row, tokenizer)] += 1
    assert forms["alpaca_ko"] > 100
    assert forms["chat_template"] > 100
    assert set(forms) == {"alpaca_ko", "chat_template", "plain"}


def form_of(prompt_ids: list[int], row: Row, tokenizer: Any) -> str:
    for form in ("alpaca_ko", "chat_template", "plain"):
        text = render(form, row.instruction, row.input, tokenizer)
        text += "\n" if form == "plain" else ""
        if tokenizer(text, add_special_tokens=adds_special_tokens(text, tokenizer))["input_ids"] == prompt_ids:
            return form
    raise AssertionError(f"no prompt format makes these tokens: {tokenizer.decode(prompt_ids)!r}")


def test_words_cut_into_unusual_pieces_are_still_the_same_text(corpus_rows: list[Row], tokenizer: Any) -> None:
    whole = encode(corpus_rows, tokenizer, replace(MINIATURE, split_noise=0.0))
    cut = encode(corpus_rows, tokenizer, replace(MINIATURE, split_noise=0.5))
    longer = sum(len(example.ids) > len(other.ids) for example, other in zip(cut, whole, strict=True))
    assert longer > len(whole) / 4
    for row, example in zip(corpus_rows, cut, strict=True):
        assert row.instruction in tokenizer.decode(example.ids[: example.answer_start])


def test_batches_hold_every_example_once_within_the_token_limit(corpus_rows: list[Row], tokenizer: Any) -> None:
    examples = encode(corpus_rows, tokenizer, MINIATURE)
    made = list(batches(examples, MINIATURE, epoch=0))
    assert Counter(id(example) for batch in made for example in batch) == Counter(map(id, examples))
    assert all(len(batch) * max(len(example.ids) for example in batch) <= 4_096 for batch in made)


def test_the_shipped_weights_come_from_this_recipe() -> None:
    assert json.loads((MODEL_FOLDER / "recipe.json").read_text())["recipe"] == asdict(Recipe())


def test_the_command_line_explains_itself() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "harness.tiny_ko.recipe", "--help"], capture_output=True, text=True, timeout=60
    )
    assert run.returncode == 0
    assert all(option in run.stdout for option in ("--output", "--rows", "--epochs", "--seed"))
