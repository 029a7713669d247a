"""Engines that answer a whole suite at once, several models of the same weights together.

A backend's plain path answers batch by batch and waits for the slowest answer of each. An engine keeps rows filled as
answers end, and lets a base model and its adapters share every batch. `open_engine` picks one by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.backends import Answer, PassTimes
from harness.orders import WorkOrder
from harness.records import LoadedModel
from harness.suite import Sampling


@dataclass(frozen=True)
class Request:
    """A prompt for one of the order's models: 0 is the order's own, then its partners in their order.

    `draw` seeds what is drawn for it at a temperature above 0, so that an answer is the same whatever runs beside it.
    """

    prompt: str
    variant: int = 0
    draw: int = 0


class Engine(Protocol):
    """A loaded model with its adapters, ready for many requests."""

    def describe(self) -> tuple[LoadedModel, ...]:
        """Say what was really loaded, one entry for each of the order's models."""

    def answers(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[tuple[int, Answer]]:
        """Yield (index of the request, answer) as answers end, in any order."""

    def time_pass(self, batch_size: int, prompt_tokens: int, new_tokens: int) -> PassTimes:
        """As `Backend.time_pass`."""

    def warmup_seconds(self) -> float:
        """Return the seconds spent so far on compiling and capturing, or on starting, apart from answering."""


class EngineUnsuited(Exception):
    """This engine cannot run this model; the plain path can. The message says why."""


def open_engine(order: WorkOrder) -> Engine:
    """Load the order's models with the engine that its job names. EngineUnsuited if that cannot run them."""
    module = importlib.import_module(f"harness.engine.{order.job.parameters['engine']}")
    engine: Engine = module.load(order)
    return engine
