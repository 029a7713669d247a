"""The page's figures. With `roofline_plot` and `precision_plot`, the only modules of the report that load matplotlib.

Figures are narrow panels that the page sets side by side or below one another, so that their text is as large on a
phone as on a desk. A point of matplotlib is a pixel of the page.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from harness.report.lookup import Lookup
from harness.report.svg import GRID, INK, MUTED, SERIES, SURFACE, embed
from harness.report.wording import percent
from harness.summary import Cell, Group

POINTS_PER_INCH = 72
MARKERS = "osD^vP"
WIDE_SPREAD = 20.0
"""From here on a panel is logarithmic: on a linear one the small values would lie on the axis."""


@dataclass(frozen=True)
class Series:
    """One line of a panel: a model's medians over the batch sizes, with quartiles."""

    label: str
    number: int
    batches: tuple[int, ...]
    medians: tuple[float, ...]
    lower_quartiles: tuple[float, ...]
    upper_quartiles: tuple[float, ...]


def rate_panels(lookup: Lookup) -> dict[Group, Markup]:
    """A panel of rates for each group of prompts; a model has the same colour in all, answered there or not."""
    return {
        group: rate_panel(f"rate-{group}", cells, [lookup.number(cell.model) for cell in cells])
        for group in lookup.groups
        if (cells := lookup.cells(group))
    }


def rate_panel(name: str, cells: Sequence[Cell], numbers: Sequence[int]) -> Markup:
    """Refusal rates of all models on one group of prompts, with intervals; corrected rates hollow below.

    `numbers` give each cell its colour and marker.
    """
    shown = [(number, cell) for number, cell in zip(numbers, cells, strict=True) if cell.refusal.value is not None]
    corrected = any(cell.refusal.corrected is not None for _, cell in shown)
    row_height = 58 if corrected else 44
    height = row_height * max(len(shown), 1) + 26
    figure, axes = panel(height, left=6, right=10, top=4, bottom=22)
    axes.set_xlim(-1.5, 101.5)
    axes.set_ylim(row_height * max(len(shown), 1), 0)
    axes.set_yticks([])
    axes.set_xticks([0, 25, 50, 75, 100], ["0", "25", "50", "75", "100%"])
    axes.grid(axis="x", color=GRID, linewidth=1)
    for row, (number, cell) in enumerate(shown):
        rate, top = cell.refusal, row * row_height
        axes.text(0, top + 15, cell.model, fontsize=13, fontweight=700, color=INK, ha="left")
        axes.text(100, top + 15, percent(rate.value), fontsize=13, fontweight=700, color=INK, ha="right")
        if rate.interval is not None:
            _whisker(axes, rate.interval.low, rate.interval.high, top + 30, number, thick=True)
        _point(axes, rate.value or 0, top + 30, number, filled=True)
        if rate.corrected is not None:
            if rate.corrected_interval is not None:
                _whisker(axes, rate.corrected_interval.low, rate.corrected_interval.high, top + 45, number, thick=False)
            _point(axes, rate.corrected, top + 45, number, filled=False)
    return finish(figure, name, {})


def loss_panel(name: str, steps: Sequence[int], losses: Sequence[float]) -> Markup:
    """Training loss by optimizer step."""
    figure, axes = panel(230, left=46, right=12, top=12, bottom=40, width=420)
    finite = [(step, loss) for step, loss in zip(steps, losses, strict=True) if math.isfinite(loss)]
    axes.grid(axis="y", color=GRID, linewidth=1)
    if finite:
        xs, ys = zip(*finite, strict=True)
        axes.plot(xs, ys, color=SERIES[1], linewidth=2)
        axes.plot(xs[-1:], ys[-1:], MARKERS[1], color=SERIES[1], markersize=7, markeredgecolor=SURFACE)
        axes.set_ylim(0, max(ys) * 1.08 or 1)
    for step, loss in zip(steps, losses, strict=True):
        if not math.isfinite(loss):
            axes.axvline(step, color=SERIES[1], linewidth=1, linestyle=(0, (2, 2)))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("@step", fontsize=12, color=MUTED)
    return finish(figure, name, {"step": ("최적화 단계", "Optimizer step")})


def batch_panel(name: str, series: Sequence[Series], unit_divisor: float) -> Markup:
    """A measured quantity by batch size: medians joined by lines, quartiles as whiskers. Values are divided by
    `unit_divisor` first, so that the caller chooses the unit it names. Logarithmic where they span a wide range."""
    figure, axes = panel(210, left=52, right=14, top=10, bottom=40, width=400)
    batches = sorted({batch for line in series for batch in line.batches})
    position = {batch: index for index, batch in enumerate(batches)}
    axes.grid(axis="y", color=GRID, linewidth=1)
    for order, line in enumerate(series):
        # Models measured alike would hide one another; a slight shift keeps both whiskers readable.
        shift = (order - (len(series) - 1) / 2) * 0.08
        xs = [position[batch] + shift for batch in line.batches]
        medians = [value / unit_divisor for value in line.medians]
        errors = [
            [(median - low) / unit_divisor for median, low in zip(line.medians, line.lower_quartiles, strict=True)],
            [(high - median) / unit_divisor for median, high in zip(line.medians, line.upper_quartiles, strict=True)],
        ]
        colour = SERIES[line.number % len(SERIES)]
        marker = MARKERS[line.number % len(MARKERS)]
        axes.errorbar(xs, medians, yerr=errors, color=colour, marker=marker, markersize=7, linewidth=2, capsize=4)
    axes.set_xticks(range(len(batches)), [str(batch) for batch in batches])
    axes.set_xlim(-0.4, max(len(batches) - 0.6, 0.4))
    if _spread(series) > WIDE_SPREAD:
        axes.set_yscale("log")
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axes.set_xlabel("@batch", fontsize=12, color=MUTED)
    return finish(figure, name, {"batch": ("배치 크기", "Batch size")})


def _spread(series: Sequence[Series]) -> float:
    """The largest median over the smallest; 0 where a quartile is no positive number, which no logarithm can show."""
    if min(low for line in series for low in line.lower_quartiles) <= 0:
        return 0.0
    medians = [median for line in series for median in line.medians]
    return max(medians) / min(medians)


def panel(
    height: float, left: float, right: float, top: float, bottom: float, width: float = 340
) -> tuple[Figure, Axes]:
    """A figure with one plot whose margins are given in pixels: no text is measured, so no font matters."""
    figure = Figure(figsize=(width / POINTS_PER_INCH, height / POINTS_PER_INCH), dpi=POINTS_PER_INCH)
    axes = figure.add_axes(
        (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    )
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED, labelsize=12, length=0, pad=6)
    for side in axes.spines.values():
        side.set_visible(False)
    return figure, axes


def _whisker(axes: Axes, low: float, high: float, y: float, number: int, thick: bool) -> None:
    colour = SERIES[number % len(SERIES)]
    axes.plot(
        [low * 100, high * 100],
        [y, y],
        color=colour,
        linewidth=8 if thick else 2,
        alpha=0.32 if thick else 1.0,
        solid_capstyle="round",
    )


def _point(axes: Axes, share: float, y: float, number: int, filled: bool) -> None:
    colour = SERIES[number % len(SERIES)]
    axes.plot(
        [share * 100],
        [y],
        MARKERS[number % len(MARKERS)],
        color=colour,
        markersize=9 if filled else 7,
        markerfacecolor=colour if filled else SURFACE,
        markeredgecolor=SURFACE if filled else colour,
        markeredgewidth=1.2 if filled else 2,
        clip_on=False,
    )


def finish(figure: Figure, name: str, labels: Mapping[str, tuple[str, str]]) -> Markup:
    """The figure as SVG for the page. A fixed salt and no date make equal figures equal bytes."""
    target = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "korean-lora-harness"}):
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return embed(target.getvalue(), name, labels)
