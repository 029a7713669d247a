"""Speeds against a clock that is known, and the whole job on a real tiny model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.backends import PassTimes
from harness.records import LoadedModel, Measurement, Scalar
from harness.workloads.throughput import measure_throughput
from harness.workloads.train_timing import time_training
from tests.orders import Inbox, make_order
from tests.tiny_models import make_tiny_llama

PARAMETERS: dict[str, Scalar] = {
    "study": "throughput",
    "batch_size": 4,
    "prompt_tokens": 10,
    "new_tokens": 5,
    "warmup": 1,
    "repeats": 3,
}


class KnownClock:
    """A model whose first token takes half a second and every further one a tenth."""

    def __init__(self) -> None:
        self.passes = 0

    def describe(self) -> LoadedModel:
        return LoadedModel(
            job_id="throughput-base-0",
            model="base",
            backend="hf",
            path="",
            content_hash="",
            architecture="",
            parameter_count=0,
            parameter_dtypes={},
            requested_dtype="float32",
            compute_dtype="float32",
            quantization="none",
            attention="sdpa",
            device="cpu",
        )

    def time_pass(self, batch_size: int, prompt_tokens: int, new_tokens: int) -> PassTimes:
        self.passes += 1
        slow = 100.0 if self.passes == 1 else 0.0  # the warm-up pass, which must not count
        return PassTimes(1.0, tuple(1.5 + slow + 0.1 * step for step in range(new_tokens)))


def measured(inbox: Inbox) -> dict[str, Measurement]:
    return {record.name: record for record in inbox.records if isinstance(record, Measurement)}


def test_speeds_are_tokens_over_seconds_and_the_warm_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Any = KnownClock()
    monkeypatch.setattr("harness.workloads.throughput.open_backend", lambda order: clock)
    inbox = Inbox()
    measure_throughput(make_order(Path("none"), kind="throughput", parameters=PARAMETERS), inbox)
    figures = measured(inbox)
    assert clock.passes == 4
    assert figures["prefill_tokens_per_second"].values == pytest.approx([4 * 10 / 0.5] * 3)
    assert figures["decode_tokens_per_second"].values == pytest.approx([4 * 4 / 0.4] * 3)
    assert figures["time_to_first_token_seconds"].values == pytest.approx([0.5] * 3)
    assert figures["inter_token_latency_seconds"].values == pytest.approx([0.1] * 12)
    assert figures["generate_seconds"].values == pytest.approx([0.9] * 3)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("llama"))


def test_a_real_model_is_timed_and_its_memory_is_named_for_what_it_is(llama: Path) -> None:
    inbox = Inbox()
    measure_throughput(make_order(llama, kind="throughput", parameters=PARAMETERS), inbox)
    figures = measured(inbox)
    assert all(value > 0 for figure in figures.values() for value in figure.values)
    assert {"load_seconds", "peak_process_rss_bytes"} <= figures.keys()
    assert figures["decode_tokens_per_second"].conditions == {**PARAMETERS, "dtype": "float32", "quantization": "none"}


def test_training_steps_are_timed_with_their_losses(llama: Path) -> None:
    parameters = {**PARAMETERS, "study": "precision", "training_steps": 4, "dtype": "float32"}
    inbox = Inbox()
    time_training(make_order(llama, kind="train_timing", parameters=parameters), inbox)
    figures = measured(inbox)
    assert len(figures["training_step_seconds"].values) == 4
    losses = figures["training_loss"].values
    assert losses[-1] < losses[0]
    steps, speeds = (figures[name].values for name in ("training_step_seconds", "training_tokens_per_second"))
    assert [step * speed for step, speed in zip(steps, speeds, strict=True)] == pytest.approx([4 * 15] * 4)
