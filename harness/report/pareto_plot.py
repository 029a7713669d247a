"""The plot of what a sweep's settings gain against what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from harness.report.plots import finish, panel
from harness.report.svg import GRID, INK, MUTED, SERIES, SURFACE
from harness.summary import Interval

MOST_LABELS = 3
"""Numbers written for settings that are at one place."""


@dataclass(frozen=True)
class Coordinate:
    """One measure of one setting: mean over seeds, its interval, and each seed's share."""

    value: float
    interval: Interval
    by_seed: tuple[float, ...]


@dataclass(frozen=True)
class Point:
    """One setting on a panel. `label` is its number in the table; `trained` ones are round."""

    label: str
    cost: Coordinate
    gain: Coordinate
    on_front: bool
    trained: bool


def pareto_front(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Whether each point is non-dominated, more being better in both: no other is as good in both and better in one."""
    front = [False] * len(points)
    best_above = float("-inf")  # of the second value, among points with a larger first one
    order = sorted(range(len(points)), key=lambda index: (-points[index][0], -points[index][1]))
    first, best_here = None, float("-inf")
    for index in order:
        if points[index][0] != first:
            best_above = max(best_above, best_here)
            first, best_here = points[index]  # the best of those with an equal first value comes first
        front[index] = points[index][1] == best_here and best_here > best_above
    return front


def pareto_panel(name: str, points: Sequence[Point], cost: tuple[str, str], less_is_better: bool) -> Markup:
    """Refusal of harmful prompts (upwards) against a cost (over-refusal, to the left) or ability (to the right).

    Non-dominated settings are filled and joined; dominated ones are grey. `cost` names the horizontal axis in Korean
    and English.
    """
    figure, axes = panel(360, left=48, right=16, top=26, bottom=42, width=380)
    axes.grid(color=GRID, linewidth=1)
    for axis, coordinates in (
        (axes.xaxis, [point.cost for point in points]),
        (axes.yaxis, [point.gain for point in points]),
    ):
        low, high = _limits(coordinates)
        axis.set_view_interval(low, high, ignore=True)
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}%"))
    front = sorted(_place(point) for point in points if point.on_front)
    axes.plot(*zip(*front, strict=True), color=SERIES[1], linewidth=1.5, linestyle=(0, (4, 3)), zorder=2)
    for point in sorted(points, key=lambda point: point.on_front):
        _draw(axes, point)
    for place, labels in _labels(points).items():
        on_front = any(point.on_front for point in points if _place(point) == place)
        shown = "·".join(labels[:MOST_LABELS]) + "…" * (len(labels) > MOST_LABELS)
        colour = SURFACE if on_front else INK
        axes.text(*place, shown, fontsize=10, fontweight=700, color=colour, ha="center", va="center_baseline", zorder=5)
    axes.text(
        0 if less_is_better else 1,
        1.02,  # above the plot, where no point can be
        "@better",
        transform=axes.transAxes,
        fontsize=11,
        color=MUTED,
        ha="left" if less_is_better else "right",
        va="bottom",
    )
    axes.set_xlabel("@cost", fontsize=12, color=MUTED)
    better = ("↖ 더 좋음", "↖ better") if less_is_better else ("더 좋음 ↗", "better ↗")
    return finish(figure, name, {"cost": cost, "better": better})


def _limits(coordinates: Sequence[Coordinate]) -> tuple[float, float]:
    """Percentages that hold all means, seeds and intervals, with room for the markers."""
    lows = [min(one.interval.low, *one.by_seed) for one in coordinates]
    highs = [max(one.interval.high, *one.by_seed) for one in coordinates]
    low, high = min(lows) * 100, max(highs) * 100
    room = max((high - low) * 0.06, 2.0)
    return low - room, high + room


def _draw(axes: Axes, point: Point) -> None:
    colour = SERIES[1] if point.on_front else MUTED
    x, y = _place(point)
    strength = 0.75 if point.on_front else 0.35
    for low, high, across in (
        (point.cost.interval.low, point.cost.interval.high, True),
        (point.gain.interval.low, point.gain.interval.high, False),
    ):
        ends = [low * 100, high * 100]
        axes.plot(ends if across else [x, x], [y, y] if across else ends, color=colour, linewidth=1.5, alpha=strength)
    if len(point.gain.by_seed) > 1:
        seeds_x, seeds_y = (
            [share * 100 for share in point.cost.by_seed],
            [share * 100 for share in point.gain.by_seed],
        )
        axes.plot(seeds_x, seeds_y, "o", color=colour, markersize=4, alpha=strength, zorder=3)
    axes.plot(
        [x],
        [y],
        "o" if point.trained else "s",
        markersize=17,
        markerfacecolor=colour if point.on_front else SURFACE,
        markeredgecolor=SURFACE if point.on_front else colour,
        markeredgewidth=1.2,
        zorder=4,
    )


def _place(point: Point) -> tuple[float, float]:
    return point.cost.value * 100, point.gain.value * 100


def _labels(points: Sequence[Point]) -> dict[tuple[float, float], list[str]]:
    """The numbers of all settings at one place, where one would be written over the other."""
    labels: dict[tuple[float, float], list[str]] = {}
    for point in points:
        labels.setdefault(_place(point), []).append(point.label)
    return labels
