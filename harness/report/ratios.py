"""Figures held against one another: what was measured under the same conditions, and how many times the other it is."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from harness.records import Measurement
from harness.report.measurement_kinds import SILENT


def median_of(item: Measurement) -> float:
    """The median of a measurement's values, in its unit."""
    return statistics.median(item.values)


def conditions_key(item: Measurement, *but: str) -> str:
    """The same text for measurements under the same conditions; those named by `but`, and how a job ran, left out."""
    left_out = (SILENT - {"study"}) | set(but)
    return str(sorted((key, str(value)) for key, value in item.conditions.items() if key not in left_out))


def ratios(before: Mapping[str, float], after: Mapping[str, float]) -> list[float]:
    """Each figure of `after` over that of `before` with the same key, where there is one that is not 0."""
    return [after[key] / before[key] for key in after if before.get(key)]


def ratio_range(found: Sequence[float]) -> str:
    """The smallest and the largest: '0.95–1.02', or '1.00' where they read the same."""
    low, high = f"{min(found):.2f}", f"{max(found):.2f}"
    return low if low == high else f"{low}–{high}"
