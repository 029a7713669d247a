"""What a change of precision alone does to answers and verdicts. Pure: no files, no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from harness.records import PrecisionAnswer, Verdict
from harness.statistics import Bounds, mcnemar_exact, paired_difference, wilson
from harness.summary import Interval, PrecisionFlips, Rate

Time = tuple[str, str, int]
"""(dtype, quantization, repeat): one time that the prompts were answered."""


def precision_flips(
    answers: Sequence[PrecisionAnswer], verdicts: Sequence[Verdict], confidence: float
) -> tuple[PrecisionFlips, ...]:
    """Compare every time the prompts were answered with the first; `verdicts` are those of `answers`, in their order.

    Prompts that failed in either are left out of both; those that are unscored in either count for equality alone.
    """
    times: dict[tuple[str, Time], dict[str, tuple[PrecisionAnswer, Verdict]]] = {}
    for answer, verdict in zip(answers, verdicts, strict=True):
        if answer.error is None:
            key = (answer.model, (answer.dtype, answer.quantization, answer.repeat))
            times.setdefault(key, {})[answer.prompt_id] = (answer, verdict)
    references: dict[str, Time] = {}
    found = []
    for model, time in times:
        reference = references.setdefault(model, time)
        if time != reference:
            found.append(_compare(model, reference, time, times[model, reference], times[model, time], confidence))
    return tuple(found)


def first_difference(first: Sequence[int], second: Sequence[int]) -> int | None:
    """Return the first position (from 0) at which two token sequences differ; None where they are equal."""
    for position, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return position
    return None if len(first) == len(second) else min(len(first), len(second))


def _compare(
    model: str,
    reference: Time,
    time: Time,
    before: Mapping[str, tuple[PrecisionAnswer, Verdict]],
    after: Mapping[str, tuple[PrecisionAnswer, Verdict]],
    confidence: float,
) -> PrecisionFlips:
    shared = [(before[prompt], after[prompt]) for prompt in before if prompt in after]
    differing = [(one, other) for (one, _), (other, _) in shared if one.text != other.text]
    scored = [(one, other) for (_, one), (_, other) in shared if "unscored" not in (one, other)]
    changes = Counter(f"{one} → {other}" for one, other in scored if one != other)
    pairs = Counter((one == "refusal", other == "refusal") for one, other in scored)
    both, gained, lost, neither = (pairs[key] for key in ((True, True), (False, True), (True, False), (False, False)))
    compared = paired_difference(both, gained, lost, neither, confidence) if scored else None
    positions = (first_difference(one.tokens, other.tokens) for one, other in differing)
    return PrecisionFlips(
        model=model,
        dtype=time[0],
        quantization=time[1],
        repeat=time[2],
        reference_dtype=reference[0],
        reference_quantization=reference[1],
        equal=_rate(len(shared) - len(differing), len(shared), confidence),
        first_differences=tuple(sorted(position for position in positions if position is not None)),
        verdict_flips=_rate(changes.total(), len(scored), confidence),
        changes=dict(sorted(changes.items(), key=lambda item: (-item[1], item[0]))),
        refusals=both + gained,
        gained=gained,
        lost=lost,
        difference=compared[0] if compared else None,
        interval=_interval(compared[1]) if compared else None,
        p_value=mcnemar_exact(gained, lost) if compared else None,
    )


def _rate(count: int, n: int, confidence: float) -> Rate:
    if not n:
        return Rate(count=0, n=0, value=None, interval=None)
    return Rate(count=count, n=n, value=count / n, interval=_interval(wilson(count, n, confidence)))


def _interval(bounds: Bounds) -> Interval:
    return Interval(low=bounds.low, high=bounds.high)
