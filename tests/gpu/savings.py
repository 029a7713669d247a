"""What unsloth saves: each of its trainings beside the same one through transformers, peft and trl."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CLAIMED_SPEED = 2.0
CLAIMED_MEMORY_SHARE = 0.70
"""Unsloth's own headline: twice as fast, with 70 % less VRAM."""


@dataclass(frozen=True)
class Saving:
    """One pair: the same training by unsloth and by transformers, peft and trl."""

    name: str
    unsloth: dict[str, Any]
    hf: dict[str, Any]

    @property
    def speed(self) -> float:
        """Return how many times as fast unsloth is: the ratio of median tokens per second."""
        return float(self.unsloth["tokens_per_second"]["median"] / self.hf["tokens_per_second"]["median"])

    @property
    def memory(self) -> float | None:
        """Return the share of peak reserved memory that is saved; negative where unsloth needs more."""
        mine, other = self.unsloth["peak_reserved_bytes"], self.hf["peak_reserved_bytes"]
        return None if not mine or not other else 1 - mine / other


def savings(points: Sequence[dict[str, Any]]) -> list[Saving]:
    """Pair the measured points whose names differ in the backend alone, in the order of the points."""
    measured = {point["name"]: point for point in points if point["status"] == "measured"}
    pairs = []
    for name, point in measured.items():
        backend, _, rest = name.partition("-")
        other = measured.get(f"hf-{rest}")
        if backend == "unsloth" and other:
            pairs.append(Saving(rest, point, other))
    return pairs
