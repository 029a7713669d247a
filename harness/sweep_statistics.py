"""Rates over several seeds, and differences between two of them.

A setting trained with S seeds and asked P prompts gives a table of S x P zeros and ones. Two things were drawn by
chance: the seeds and the prompts, and the same prompts meet every seed. An interval over the seeds alone would say
nothing of other prompts, one over all S x P answers would take them for independent. So both are crossed random
effects, as readers and cases are in studies of diagnostic readers (Obuchowski and Rockette, Commun. Stat. Simul.
Comput. 24 (1995) 285-308; Hillis, Stat. Med. 26 (2007) 596-619).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy
from numpy.typing import NDArray

from harness.statistics import Bounds, mcnemar_exact, paired_difference, wilson

Table = NDArray[numpy.float64]
"""Zeros and ones, one row per seed and one column per prompt; no gaps."""


class Difference(NamedTuple):
    """First minus second, its interval, and the two-sided p-value of 'no difference'."""

    value: float
    interval: Bounds
    p_value: float


class _Squares(NamedTuple):
    """Mean squares of a two-way table with one value per cell."""

    seeds: float
    prompts: float
    rest: float


def _squares(table: Table) -> _Squares:
    seeds, prompts = table.shape
    mean = table.mean()
    by_seed, by_prompt = table.mean(axis=1), table.mean(axis=0)
    rest = table - by_seed[:, None] - by_prompt[None, :] + mean
    return _Squares(
        float(prompts * ((by_seed - mean) ** 2).sum() / (seeds - 1)),
        float(seeds * ((by_prompt - mean) ** 2).sum() / (prompts - 1)),
        float((rest**2).sum() / ((seeds - 1) * (prompts - 1))),
    )


def mean_over_seeds(table: Table, confidence: float) -> tuple[float, Bounds]:
    """Mean of the seeds' rates, and an interval for seeds and prompts not tried. A single seed: Wilson's interval.

    Variance of the mean from the mean squares of the two-way table, (MS prompts + max(MS seeds - MS rest, 0)) / SP,
    with Satterthwaite's degrees of freedom (Biom. Bull. 2 (1946) 110-114). It makes an effective number of answers,
    p(1 - p) / variance, put into Wilson's interval with Student's quantile, as survey statistics does for shares
    (Kott and Carr, J. Off. Stat. 13 (1997) 409-420; Dean and Pagano, J. Surv. Stat. Methodol. 3 (2015) 484-503). Where
    all answers are alike the table says nothing of its variance; then each prompt counts once.
    """
    seeds, prompts = table.shape
    mean = float(table.mean())
    if seeds == 1 or prompts == 1:
        return mean, wilson(int(table[0].sum()), prompts, confidence) if seeds == 1 else Bounds(0.0, 1.0)
    squares = _squares(table)
    cells = seeds * prompts
    variance = (squares.prompts + max(squares.seeds - squares.rest, 0)) / cells
    if variance == 0:
        return mean, wilson(round(mean * prompts), prompts, confidence)
    parts = [(squares.seeds, seeds - 1), (squares.prompts, prompts - 1), (squares.rest, (seeds - 1) * (prompts - 1))]
    freedom = _freedom(variance, [(square / cells, one) for square, one in parts])
    effective = min(mean * (1 - mean) / variance, cells)
    return mean, _score_interval(mean, effective, _quantile(confidence, freedom))


def difference_over_seeds(first: Table, second: Table, confidence: float) -> Difference:
    """First minus second on the same prompts (columns); each has its own seeds (rows).

    With one row each: exact McNemar and Newcombe's paired interval. Else a t-test whose variance adds that of the
    prompts, from the differences of the prompts' means with one gained and one lost prompt more (Agresti and Min,
    Stat. Med. 24 (2005) 729-740), to that of each side's seeds, max(MS seeds - MS rest, 0) / SP; degrees of freedom by
    Satterthwaite. A side with a single row adds no variance of seeds: it is untrained, or what seeds do is not known.
    """
    prompts = first.shape[1]
    if len(first) == len(second) == 1:
        return _exact(first[0], second[0], confidence)
    by_prompt = first.mean(axis=0) - second.mean(axis=0)
    total, n = float(by_prompt.sum()), prompts + 2
    variance = (float((by_prompt**2).sum()) + 1 - total**2 / n) / n**2
    parts = [(variance, n - 1)]
    for table in (first, second):
        seeds = len(table)
        if seeds > 1 and prompts > 1:
            squares, cells = _squares(table), table.size
            variance += max(squares.seeds - squares.rest, 0) / cells
            parts += [(squares.seeds / cells, seeds - 1), (squares.rest / cells, (seeds - 1) * (prompts - 1))]
    freedom = _freedom(variance, parts)
    centre, error = total / n, math.sqrt(variance)
    reach = _quantile(confidence, freedom) * error
    interval = Bounds(max(centre - reach, -1.0), min(centre + reach, 1.0))
    return Difference(total / prompts, interval, _two_sided(centre / error, freedom))


def _exact(first: Table, second: Table, confidence: float) -> Difference:
    both, gained = int((first * second).sum()), int((first * (1 - second)).sum())
    lost, neither = int(((1 - first) * second).sum()), int(((1 - first) * (1 - second)).sum())
    value, interval = paired_difference(both, gained, lost, neither, confidence)
    return Difference(value, interval, mcnemar_exact(gained, lost))


def _freedom(variance: float, parts: Sequence[tuple[float, int]]) -> float:
    """Satterthwaite's degrees of freedom of a sum of mean squares, each with its own."""
    return variance**2 / sum(part**2 / freedom for part, freedom in parts)


def _score_interval(mean: float, n: float, quantile: float) -> Bounds:
    centre = (mean * n + quantile**2 / 2) / (n + quantile**2)
    half = quantile / (n + quantile**2) * math.sqrt(mean * (1 - mean) * n + quantile**2 / 4)
    return Bounds(max(centre - half, 0.0), min(centre + half, 1.0))


def _quantile(confidence: float, freedom: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + confidence) / 2))


def _two_sided(t: float, freedom: float) -> float:
    from scipy.special import stdtr

    return min(1.0, 2 * float(stdtr(freedom, -abs(t))))
