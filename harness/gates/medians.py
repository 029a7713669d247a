"""Intervals for medians of a few raw timings, by the bootstrap as scipy has it.

A timing has a long tail to the slow side, so its middle is the median and its interval is drawn from the values
themselves: Efron's percentile interval over 4,999 resamples, with a fixed seed so that a page is rebuilt byte by byte.
It knows of the passes of one process and of nothing between processes or days.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from harness.statistics import Bounds

FEWEST_VALUES = 3
RESAMPLES = 4999
SEED = 3407
VALUES_AT_ONCE = 4_000_000
"""Of all resamples handled together, so that thousands of latencies do not fill the memory."""


def median_interval(values: Sequence[float], confidence: float) -> Bounds | None:
    """Interval of the median; None for fewer than three values."""
    if len(values) < FEWEST_VALUES:
        return None
    return _bootstrap((values,), lambda sample, axis: _median(sample, axis), confidence)


def median_ratio(values: Sequence[float], reference: Sequence[float], confidence: float) -> tuple[float, Bounds | None]:
    """The median of `values` over that of `reference`, and its interval; None for fewer than three values in either.

    All values must be positive. The two are resampled independently.
    """
    ratio = median(values) / median(reference)
    if min(len(values), len(reference)) < FEWEST_VALUES:
        return ratio, None
    bounds = _bootstrap(
        (values, reference), lambda first, second, axis: _median(first, axis) / _median(second, axis), confidence
    )
    return ratio, bounds


def _median(sample: Any, axis: int) -> Any:
    import numpy

    return numpy.median(sample, axis=axis)


def _bootstrap(samples: tuple[Sequence[float], ...], statistic: Any, confidence: float) -> Bounds:
    import numpy
    from scipy.stats import bootstrap

    interval = bootstrap(
        samples,
        statistic,
        n_resamples=RESAMPLES,
        batch=max(1, VALUES_AT_ONCE // max(map(len, samples))),
        vectorized=True,
        confidence_level=confidence,
        method="percentile",
        rng=numpy.random.default_rng(SEED),
    ).confidence_interval
    return Bounds(float(interval.low), float(interval.high))
