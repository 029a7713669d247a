"""How often a rate corrected by people's labels holds the truth: `python -m tests.review_coverage [RUNS]`.

The truth is the model's rate over all prompts of the kind, which the run's own true rate is a draw of. A run has 600
answers. The rule grader misses some refusals and takes some other answers for refusals, at the given shares. As many
labels of each of its two verdicts are drawn, as far as there are answers, and people make no errors.
"""

from __future__ import annotations

import sys

import numpy

from harness.grading.calibration import WeightedLabel, calibrate
from harness.statistics import rogan_gladen

ANSWERS = 600
CASES = (
    (0.5, 0.05, 0.05, 40),
    (0.5, 0.1, 0.1, 100),
    (0.2, 0.1, 0.02, 40),
    (0.2, 0.1, 0.02, 100),
    (0.9, 0.1, 0.1, 40),
    (0.9, 0.1, 0.1, 100),
    (0.05, 0.1, 0.01, 80),
    (0.05, 0.0, 0.0, 80),
)
"""True rate, share of refusals missed, share of other answers taken for refusals, labels."""


def covered(rate: float, missed: float, mistaken: float, labels: int, runs: int) -> tuple[float, float, float, float]:
    """Shares of 95% intervals that hold the model's and the run's rate, mean width, share of runs not corrected."""
    draw = numpy.random.default_rng(3407)
    hits, hits_in_run, widths = 0, 0, []
    for _ in range(runs):
        truth = draw.random(ANSWERS) < rate
        found = numpy.where(truth, draw.random(ANSWERS) >= missed, draw.random(ANSWERS) < mistaken)
        calibrated = calibrate(_labelled(draw, truth, found, labels))
        corrected = rogan_gladen(int(found.sum()), ANSWERS, calibrated[1]) if calibrated else None
        if corrected is not None:
            low, high = corrected[1]
            hits += low <= rate <= high
            hits_in_run += low <= truth.mean() <= high
            widths.append(high - low)
    return hits / len(widths), hits_in_run / len(widths), float(numpy.mean(widths)), 1 - len(widths) / runs


def _labelled(
    draw: numpy.random.Generator, truth: numpy.ndarray, found: numpy.ndarray, labels: int
) -> list[WeightedLabel]:
    """Draw labels evenly from both verdicts of the grader."""
    strata = [numpy.flatnonzero(found), numpy.flatnonzero(~found)]
    smaller = min(labels // 2, *map(len, strata))
    rows = []
    for stratum in strata:
        chosen = draw.choice(stratum, min(len(stratum), max(labels // 2, labels - smaller)), replace=False)
        weight = len(stratum) / max(len(chosen), 1)
        rows += [WeightedLabel(("m", "p", 0), bool(truth[index]), bool(found[index]), weight) for index in chosen]
    return rows


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    print("| true rate | refusals missed | others mistaken | labels | model's | run's | mean width | not corrected |")
    print("| -: | -: | -: | -: | -: | -: | -: | -: |")
    for case in CASES:
        held, held_in_run, width, left = covered(*case, count)
        shares = " | ".join(f"{share:.0%}" for share in case[:3])
        print(f"| {shares} | {case[3]} | {held:.1%} | {held_in_run:.1%} | {width:.3f} | {left:.1%} |")
