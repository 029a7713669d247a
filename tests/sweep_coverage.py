"""How often the intervals and tests of sweeps are right, by simulation: `python -m tests.sweep_coverage [RUNS]`.

Prompts differ in how hard they are (standard deviation 1 on the probit scale), seeds in how readily they refuse
(0.5), and an answer has noise of its own (1). Each run draws new seeds and 100 new prompts.
"""

from __future__ import annotations

import math
import sys

import numpy
from scipy.stats import norm

from harness.statistics import wilson
from harness.sweep_statistics import Table, difference_over_seeds, mean_over_seeds

PROMPTS = 100
SEED_SPREAD = 0.5


def simulated(draw: numpy.random.Generator, share: float, seeds: int, hard: Table) -> Table:
    """Answers of new seeds to prompts as hard as given; over all seeds and prompts `share` of them are refusals."""
    threshold = norm.ppf(share) * math.sqrt(1 + SEED_SPREAD**2 + 1)
    noise = draw.normal(0, 1, (seeds, hard.size)) + draw.normal(0, SEED_SPREAD, (seeds, 1)) + hard
    return numpy.where(threshold + noise > 0, 1.0, 0.0)


def coverage(seeds: int, share: float, runs: int) -> tuple[float, float]:
    """Shares of 95% intervals that hold the true share: of `mean_over_seeds`, and of Wilson's over all answers."""
    draw = numpy.random.default_rng(11)
    hits = naive_hits = 0
    for _ in range(runs):
        answers = simulated(draw, share, seeds, draw.normal(0, 1, PROMPTS))
        low, high = mean_over_seeds(answers, 0.95)[1]
        hits += low <= share <= high
        naive = wilson(int(answers.sum()), answers.size)
        naive_hits += naive.low <= share <= naive.high
    return hits / runs, naive_hits / runs


def false_alarms(seeds: int, share: float, runs: int) -> float:
    """Share of tests at 5% that call two settings different which are alike."""
    draw = numpy.random.default_rng(5)
    called = 0
    for _ in range(runs):
        hard = draw.normal(0, 1, PROMPTS)
        first, second = (simulated(draw, share, seeds, hard) for _ in range(2))
        called += difference_over_seeds(first, second, 0.95).p_value < 0.05
    return called / runs


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print("| seeds | true share | covered | covered by Wilson over all answers | alike, called different |")
    print("| -: | -: | -: | -: | -: |")
    for number in (2, 3, 5):
        for true_share in (0.02, 0.1, 0.5, 0.9):
            covered, naively = coverage(number, true_share, count)
            alarms = false_alarms(number, true_share, count)
            print(f"| {number} | {true_share:.0%} | {covered:.1%} | {naively:.1%} | {alarms:.1%} |")
