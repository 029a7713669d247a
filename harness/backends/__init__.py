"""What loads and runs a model. `open_backend` picks one by name and imports only that one."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.orders import WorkOrder
from harness.records import FinishReason, LoadedModel
from harness.suite import Sampling


@dataclass(frozen=True)
class Answer:
    """One answer as the model gave it, or the `error` of a request that failed. Token counts are without padding.

    `may_pass` says of an error that asking again later can help, as with a server that was busy.
    """

    rendered_prompt: str
    text: str
    finish_reason: FinishReason
    prompt_tokens: int
    new_tokens: int
    error: str | None = None
    may_pass: bool = False


@dataclass(frozen=True)
class PassTimes:
    """Clock readings of one generation pass in seconds: before it, then after each token of the batch."""

    start: float
    tokens: tuple[float, ...]


class OutOfMemory(Exception):
    """The batch did not fit; the caller may try a smaller one."""


OnText = Callable[[str], None]


class Backend(Protocol):
    """A loaded model."""

    def describe(self) -> LoadedModel:
        """Say what was really loaded, proofs and self-tests included."""

    def answer(self, prompts: Sequence[str], sampling: Sampling, seed: int, on_text: OnText | None) -> list[Answer]:
        """Answer a batch. `on_text` gets the pieces of the answer of a batch of one. OutOfMemory if it does not fit."""

    def time_pass(self, batch_size: int, prompt_tokens: int, new_tokens: int) -> PassTimes:
        """Generate exactly `new_tokens` from exactly `prompt_tokens` for each row, ignoring end of sequence."""


def open_backend(order: WorkOrder) -> Backend:
    """Load the order's model with the backend it names; only that backend's module is imported."""
    module = importlib.import_module(f"harness.backends.{order.model.backend}")
    backend: Backend = module.load(order)
    return backend
