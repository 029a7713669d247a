"""Answers of one precision: the same greedy batches, twice for the reference, none from random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.orders import Finished, Message, Records, WorkOrder
from harness.records import PRECISION_LEFT_OUT, Event, LoadedModel, PrecisionAnswer, Scalar
from harness.suite import Model, Sampling
from harness.worker import work
from harness.workloads.precision_answers import answer_in_precision
from tests.orders import Inbox, make_order
from tests.tiny_models import make_tiny_llama

PARAMETERS: dict[str, Scalar] = {"study": "precision", "times": 2, "batch_size": 2}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("llama"))


def order(place: Path, **fields: Any) -> Any:
    sampling = Sampling(max_new_tokens=6, temperature=0.9, top_p=0.9)
    return make_order(place, kind="precision_answers", parameters=PARAMETERS, sampling=sampling, **fields)


def test_both_times_of_one_precision_are_equal_whatever_the_suite_draws(llama: Path) -> None:
    inbox = Inbox()
    answer_in_precision(order(llama, model=Model(path="model", prompt_format="alpaca_ko", dtype="bfloat16")), inbox)
    answers = [record for record in inbox.records if isinstance(record, PrecisionAnswer)]
    first, second = ({one.prompt_id: one for one in answers if one.repeat == repeat} for repeat in (0, 1))
    assert first.keys() == second.keys() == {"a", "b", "c"}
    assert {key: one.text for key, one in first.items()} == {key: one.text for key, one in second.items()}
    assert first["a"].dtype == "bfloat16"
    assert all(len(one.tokens) >= 1 for one in first.values())


def test_random_weights_are_left_out_with_a_reason(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.backends.hf import load

    class Random:
        def describe(self) -> LoadedModel:
            return load(make_order(llama)).describe().model_copy(update={"weights": "random"})

    monkeypatch.setattr("harness.workloads.precision_answers.open_backend", lambda order: Random())
    inbox = Inbox()
    answer_in_precision(order(llama), inbox)
    assert not [record for record in inbox.records if isinstance(record, PrecisionAnswer)]
    assert [record.code for record in inbox.records if isinstance(record, Event)] == ["flips_left_out"]


def test_a_precision_whose_weights_do_not_fit_is_left_out_of_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(order: WorkOrder) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("harness.workloads.precision_answers.open_backend", too_large)
    said: list[Message] = []
    work(order(Path("none")), said.append)
    told, last = said
    assert isinstance(last, Finished) and isinstance(told, Records)
    (event,) = told.records
    assert isinstance(event, Event) and event.code == PRECISION_LEFT_OUT and "does not fit into memory" in event.message
