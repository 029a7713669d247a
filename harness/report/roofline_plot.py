"""The roofline as a figure: both axes logarithmic, limits as lines, measured points as markers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.report.plots import MARKERS, finish, panel
from harness.report.svg import GRID, INK, MUTED, SERIES, SURFACE

PREFIXES = ((12, "T"), (9, "G"), (6, "M"), (3, "k"), (0, ""))
LINE_STYLES = ("solid", (0, (6, 3)), (0, (2, 2)))
ROOM_FOR_A_MARKER = 0.08
"""Powers of ten kept free beside the lowest point: decoding one row in 16 bits is at 1 FLOP/byte, right on a line."""


@dataclass(frozen=True)
class Roof:
    """Limits in one precision: bytes a second and operations a second."""

    label: str
    bandwidth: float
    peak: float


@dataclass(frozen=True)
class Dot:
    """A measured point: series number, operations per byte, operations a second, and a word beside it."""

    number: int
    intensity: float
    flop_per_second: float
    label: str


def roofline_panel(name: str, roofs: Sequence[Roof], dots: Sequence[Dot]) -> Markup:
    """Arithmetic intensity across, achieved operations a second upwards."""
    figure, axes = panel(300, left=56, right=16, top=14, bottom=44, width=440)
    xs = [dot.intensity for dot in dots] + [roof.peak / roof.bandwidth for roof in roofs]
    ys = [dot.flop_per_second for dot in dots] + [roof.peak for roof in roofs]
    left, right = _start(min(xs)), math.ceil(_log(max(xs)) + 0.3)
    bottom, top = _start(min(ys)), math.ceil(_log(max(ys)) + 0.2)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    axes.grid(color=GRID, linewidth=1)
    for order, roof in enumerate(sorted(roofs, key=lambda roof: -roof.peak)):
        ridge = _log(roof.peak / roof.bandwidth)
        style = LINE_STYLES[order % len(LINE_STYLES)]
        foot = max(left, bottom - _log(roof.bandwidth))
        line_x = [foot, max(ridge, foot), right]
        line_y = [foot + _log(roof.bandwidth), _log(roof.peak), _log(roof.peak)]
        axes.plot(line_x, line_y, color=INK, linewidth=1.6, linestyle=style)
        axes.text(right - 0.04, _log(roof.peak) + 0.05, roof.label, fontsize=12, color=MUTED, ha="right", va="bottom")
    for dot in dots:
        x, y = _log(dot.intensity), _log(dot.flop_per_second)
        colour = SERIES[dot.number % len(SERIES)]
        marker = MARKERS[dot.number % len(MARKERS)]
        axes.plot([x], [y], marker, color=colour, markersize=9, markeredgecolor=SURFACE, markeredgewidth=1.2)
    for dot in _labelled(dots):
        x, y = _log(dot.intensity), _log(dot.flop_per_second)
        axes.annotate(dot.label, (x, y), (7, -11), textcoords="offset points", fontsize=11, color=MUTED)
    across, upwards = range(math.ceil(left), right + 1), range(math.ceil(bottom), top + 1)
    axes.set_xticks(across, [_power(power) for power in across])
    axes.set_yticks(upwards, [_power(power) for power in upwards])
    axes.set_xlabel("@intensity", fontsize=12, color=MUTED)
    return finish(figure, name, {"intensity": ("연산 강도 (FLOP/바이트)", "Arithmetic intensity (FLOP/byte)")})


def _labelled(dots: Sequence[Dot]) -> list[Dot]:
    """One dot for each label of a series, the first: several lengths of one batch would write over one another."""
    return list({(dot.number, dot.label): dot for dot in reversed(dots)}.values())


def _start(lowest: float) -> float:
    """Where an axis begins: at the power of ten below, or a little before a point that is on one."""
    return min(math.floor(_log(lowest)), _log(lowest) - ROOM_FOR_A_MARKER)


def _log(value: float) -> float:
    return math.log10(value)


def _power(power: int) -> str:
    """A power of ten as people say it: 13 -> '10 T', -1 -> '0.1'."""
    for size, letter in PREFIXES:
        if power >= size:
            return f"{10 ** (power - size)} {letter}".strip()
    return f"{10.0**power:g}"
