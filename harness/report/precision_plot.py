"""Figures of the precision study: one measure over all precisions, and losses against the reference's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.ticker import MaxNLocator

from harness.report.plots import MARKERS, finish, panel
from harness.report.svg import GRID, INK, MUTED, SERIES, SURFACE

ROW_HEIGHT = 44


@dataclass(frozen=True)
class Bar:
    """One precision: its quartiles as they are drawn, and its median as it is written."""

    label: str
    low: float
    middle: float
    high: float
    text: str


def precision_bars(name: str, bars: Sequence[Bar]) -> Markup:
    """A measure in every precision, from zero, quartiles as whiskers."""
    figure, axes = panel(ROW_HEIGHT * len(bars) + 8, left=6, right=10, top=4, bottom=4)
    axes.set_xlim(0, max(bar.high for bar in bars) * 1.02 or 1)
    axes.set_ylim(ROW_HEIGHT * len(bars), 0)
    axes.set_xticks([])
    axes.set_yticks([])
    for row, bar in enumerate(bars):
        top, colour = row * ROW_HEIGHT, SERIES[row % len(SERIES)]
        axes.text(0, top + 16, bar.label, fontsize=13, fontweight=700, color=INK, ha="left")
        axes.text(axes.get_xlim()[1], top + 16, bar.text, fontsize=13, fontweight=700, color=INK, ha="right")
        axes.plot([0, bar.middle], [top + 30] * 2, color=colour, linewidth=9, solid_capstyle="butt")
        if bar.high > bar.low:
            axes.plot([bar.low, bar.high], [top + 30] * 2, color=INK, linewidth=1.6, solid_capstyle="butt")
            for end in (bar.low, bar.high):
                axes.plot([end, end], [top + 26, top + 34], color=INK, linewidth=1.6)
    return finish(figure, name, {})


def loss_differences(name: str, differences: Mapping[int, Sequence[float]]) -> Markup:
    """Loss minus the reference's, step by step; series number -> one difference per step. Not finite: left out."""
    figure, axes = panel(220, left=64, right=14, top=12, bottom=40, width=420)
    axes.grid(axis="y", color=GRID, linewidth=1)
    axes.axhline(0, color=MUTED, linewidth=1.2)
    for number, values in differences.items():
        steps = [step for step, value in enumerate(values, start=1) if math.isfinite(value)]
        axes.plot(
            steps,
            [values[step - 1] for step in steps],
            color=SERIES[number % len(SERIES)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=6,
            markeredgecolor=SURFACE,
            linewidth=1.8,
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.yaxis.set_major_formatter(lambda value, position: f"{value:.3g}")
    axes.set_xlabel("@step", fontsize=12, color=MUTED)
    return finish(figure, name, {"step": ("최적화 단계", "Optimizer step")})
