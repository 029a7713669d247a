"""Keeps a stepper's slots filled: prompts go in as answers end, and nobody waits for anybody."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness.engine.stepper import Stepper

ANSWERS_A_STEP = 4
"""Answers handed on while the GPU makes a step: what their receiver does with them must not take longer than that."""
REFILL_SHARE = 8
"""Wait until one row in so many is free before prompts are read: reading one takes as long as reading several."""
STEPS_AHEAD = 2
"""Steps that the host records ahead of what it knows, so that the GPU never waits for it. An ended row runs on for so
many steps."""


@dataclass(frozen=True)
class Waiter:
    """A request that has no slot yet: its index, its prompt's tokens, the seed of its draws."""

    index: int
    tokens: list[int]
    draw: int


Waiting = dict[int, deque[Waiter]]
"""Variant -> its requests that have no slot yet."""


@dataclass(frozen=True)
class Row:
    """A request in a slot: its index, prompt tokens, and the number of the step before its first."""

    index: int
    prompt_tokens: int
    since: int


def serve(stepper: Stepper, waiting: Waiting, slots: dict[int, range]) -> Iterator[tuple[Row, list[int]]]:
    """Keep the slots filled until nothing waits; yield each request with its tokens as it ends."""
    busy: dict[int, Row] = {}
    news = _News(stepper)
    number = 0
    done: deque[tuple[Row, list[int]]] = deque()
    while busy or any(waiting.values()):
        _refill(stepper, waiting, slots, busy, number)
        longest = max(row.prompt_tokens + number - row.since for row in busy.values())
        with torch.inference_mode():
            stepper.step(longest)
        for _ in range(min(len(done), ANSWERS_A_STEP)):
            yield done.popleft()
        number += 1
        news.ask(number)
        ended = [slot for slot, row in busy.items() if news.has_ended(slot, row.since)]
        done.extend((busy.pop(slot), tokens) for slot, tokens in zip(ended, _written(stepper, ended), strict=True))
    yield from done


def _refill(
    stepper: Stepper,
    waiting: Waiting,
    slots: dict[int, range],
    busy: dict[int, Row],
    number: int,
) -> None:
    free = {variant: [slot for slot in own if slot not in busy] for variant, own in slots.items()}
    takers = {variant: min(len(own), len(waiting[variant])) for variant, own in free.items()}
    if busy and sum(takers.values()) * REFILL_SHARE < sum(map(len, slots.values())):
        return
    chosen = [(slot, waiting[variant].popleft()) for variant in takers for slot in free[variant][: takers[variant]]]
    for slot, one in chosen:
        busy[slot] = Row(one.index, len(one.tokens), number)
    if chosen:
        with torch.inference_mode():
            stepper.read_prompts(
                [slot for slot, _ in chosen], [one.tokens for _, one in chosen], [one.draw for _, one in chosen]
            )


def _written(stepper: Stepper, slots: Sequence[int]) -> list[list[int]]:
    if not slots:
        return []
    counts = stepper.counts[list(slots)].tolist()
    written = stepper.written[list(slots)].tolist()
    return [tokens[:count] for tokens, count in zip(written, counts, strict=True)]


class _News:
    """Which slots are still active, as of a few steps ago: asked for without waiting, read when it has come."""

    def __init__(self, stepper: Stepper) -> None:
        self.stepper = stepper
        self.on_gpu = stepper.device.type == "cuda"
        self.asked: deque[tuple[int, Any, torch.Tensor]] = deque()
        self.known_at, self.active = 0, [True] * len(stepper.active)

    def ask(self, number: int) -> None:
        """Ask after step `number`, and read what was asked STEPS_AHEAD steps before (on a CPU: at once)."""
        event = None
        if self.on_gpu:
            held = torch.empty(len(self.active), dtype=torch.bool, pin_memory=True)
            held.copy_(self.stepper.active, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
        else:
            held = self.stepper.active.clone()
        self.asked.append((number, event, held))
        if len(self.asked) > (STEPS_AHEAD if self.on_gpu else 0):
            self.known_at, event, held = self.asked.popleft()
            if event is not None:
                event.synchronize()
            self.active = held.tolist()

    def has_ended(self, slot: int, since: int) -> bool:
        """Say whether the row that has been in the slot since a step is known to have ended."""
        return self.known_at > since and not self.active[slot]
