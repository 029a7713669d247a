"""Work with the demonstration model: what the harness adds to bare transformers, and a training step."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from harness.backends import open_backend
from harness.orders import Progress, Records, WorkOrder
from harness.process import run_in_process
from harness.records import Scalar
from harness.store import JobFile
from harness.suite import Model, Sampling
from harness.workloads.generate import generate
from harness.workloads.train_timing import time_training
from tests.benchmarks.conftest import Timed
from tests.orders import Inbox, make_order

TINY_KO = Path("harness/tiny_ko/model")
MODEL = Model(path="tiny-ko", prompt_format="alpaca_ko")
SAMPLING = Sampling(max_new_tokens=32)
ALLOWED_RATIO = 1.05
BATCHES = tuple(tuple("abc") * 8 for _ in range(8))


def bare_generate(backend: Any) -> int:
    """What a user would write by hand: tokenize, generate, decode, over the same batches."""
    prompts = backend.order.prompts
    count = 0
    for batch in BATCHES:
        texts = [backend.texts.render(prompts[prompt_id]) for prompt_id in batch]
        encoded = backend.tokenizer(texts, return_tensors="pt", padding=True)
        output = backend.model.generate(
            **encoded, max_new_tokens=SAMPLING.max_new_tokens, do_sample=False, eos_token_id=backend.end_tokens
        )
        count += len(backend.tokenizer.batch_decode(output[:, encoded["input_ids"].shape[1] :]))
    return count


def test_bare_generation(timed: Timed) -> None:
    backend = open_backend(make_order(TINY_KO, model=MODEL, sampling=SAMPLING, batches=BATCHES))
    assert timed("test_reference_torch", 3, lambda: bare_generate(backend)) == 192


def test_generation_through_the_harness(timed: Timed, monkeypatch: pytest.MonkeyPatch) -> None:
    order = make_order(TINY_KO, model=MODEL, sampling=SAMPLING, batches=BATCHES)
    backend = open_backend(order)
    description = backend.describe()
    monkeypatch.setattr("harness.workloads.generate.open_backend", lambda _: backend)
    monkeypatch.setattr(backend, "describe", lambda: description)

    def through_the_harness() -> int:
        inbox = Inbox()
        generate(order, inbox)
        return len(inbox.records)

    assert timed("test_bare_generation", 3, through_the_harness) == 193


def test_training_steps(timed: Timed) -> None:
    parameters: dict[str, Scalar] = {
        "batch_size": 8,
        "prompt_tokens": 48,
        "new_tokens": 16,
        "training_steps": 5,
        "warmup": 1,
        "dtype": "float32",
    }
    order = make_order(TINY_KO, kind="train_timing", model=MODEL, parameters=parameters)
    timed("test_reference_torch", 2, lambda: time_training(order, Inbox()))


def test_the_harness_adds_at_most_a_twentieth_to_bare_generation(tmp_path: Path) -> None:
    """From the first prompt to the last synced answer, pipe included, against a loop written by hand."""
    order = make_order(TINY_KO, model=MODEL, sampling=SAMPLING, batches=BATCHES)
    backend = open_backend(order)
    bare_generate(backend)
    ratio = float("inf")
    for number in range(8):  # in turns, until a round without a noisy neighbour
        start = time.perf_counter()
        bare_generate(backend)
        bare_seconds = time.perf_counter() - start
        ratio = min(ratio, _seconds_through_the_harness(order, tmp_path / str(number)) / bare_seconds)
        if ratio <= ALLOWED_RATIO:
            break
    assert ratio <= ALLOWED_RATIO


def _seconds_through_the_harness(order: WorkOrder, folder: Path) -> float:
    """Time a job from the message that it begins to answer to its last answer on disk."""
    order = order.model_copy(update={"log_file": str(folder / "log.txt")})
    start = end = 0.0
    with JobFile(folder / "records.jsonl") as file:
        for message in run_in_process(order, preload=False):
            if isinstance(message, Progress) and message.done == 0:
                start = time.perf_counter()
            if isinstance(message, Records):
                file.append(message.records)
                end = time.perf_counter()
    return end - start
