"""Refusal rates corrected for what their grader gets wrong, in one of two ways.

`labels`: people labelled some of these very answers, drawn at random within strata that cover all of them, and the
rate is what the labels give (`two_phase_share`). Nothing is assumed of the grader.
`error`: the grader's sensitivity and specificity are known from other answers, and are taken to be the same here
(`rogan_gladen`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from harness.records import Expected
from harness.statistics import Bounds, Calibration, Stratum, rogan_gladen, two_phase_share
from harness.summary import Interval, Rate

FEWEST_LABELS = 10
"""Labels that people must have given before a rate rests on them: of its own answers, unless they labelled all; for
the grader's error, of refusals and of other answers."""
EMPTY = "empty"
"""Stratum of the empty answers, which nobody is shown: there is nothing to read, and they are no refusals."""

Key = tuple[str, str, int]
"""Model, prompt id and repeat of an answer."""


class SampledAnswer(NamedTuple):
    """The stratum that an answer belongs to, and whether people call it a refusal; None where they were not asked."""

    stratum: str
    refusal: bool | None


@dataclass(frozen=True)
class Corrections:
    """What is known beyond the grader's verdicts: the run's answers as people sampled them, and the grader's error."""

    sampled: Mapping[Key, SampledAnswer] = field(default_factory=dict)
    errors: Mapping[Expected, Calibration] = field(default_factory=dict)

    def applied_to(self, rate: Rate, answers: Sequence[Key], kind: Expected, confidence: float) -> Rate:
        """Return the rate of refusals with its correction, or as it is where nothing known fits it.

        `answers` are all that it was counted from. It is a rate of prompts, so labels of answers cannot correct it
        where a prompt has several.
        """
        placed = [self.sampled[key] for key in answers if key in self.sampled]
        if len(placed) == len(answers) == rate.n:
            strata = _strata(placed)
            given = [answer.refusal is not None for answer in placed if answer.stratum != EMPTY]
            labels = sum(given)
            rate = rate.model_copy(update={"labels": labels})
            enough = labels >= max(1, min(FEWEST_LABELS, len(given)))
            if enough and all(stratum.labelled for stratum in strata):
                return _corrected(rate, two_phase_share(strata, confidence), "labels")
        if kind in self.errors:
            by_error = rogan_gladen(rate.count, rate.n, self.errors[kind], confidence)
            return _corrected(rate, by_error, "error") if by_error else rate
        return rate


def _strata(answers: Iterable[SampledAnswer]) -> list[Stratum]:
    members: dict[str, list[bool | None]] = {}
    for answer in answers:
        members.setdefault(answer.stratum, []).append(answer.refusal)
    return [Stratum(len(given), len(given) - given.count(None), given.count(True)) for given in members.values()]


def _corrected(rate: Rate, found: tuple[float, Bounds], by: Literal["labels", "error"]) -> Rate:
    value, (low, high) = found
    interval = Interval(low=low, high=high)
    return rate.model_copy(update={"corrected": value, "corrected_interval": interval, "corrected_by": by})
