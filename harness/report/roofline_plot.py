"""The roofline as a figure: both axes logarithmic, limits as lines, measured points as markers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.report.plots import MARKERS, finish, panel
from harness.report.svg import GRID, INK, MUTED, SERIES, SURFACE

PREFIXES = ((15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k"), (0, ""))
LINE_STYLES = ("solid", (0, (6, 3)), (0, (2, 2)))
WIDTH, HEIGHT = 440, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 44
"""The figure and its margins in pixels."""
LETTER_WIDTH, LETTER_HEIGHT, MARKER = 6.4, 11, 10
"""Pixels of a label's letter and of a marker, for keeping them apart; digits and small letters are about as wide."""
LABEL_HEIGHTS = (-11.0, 4.0, -22.0, 15.0, -33.0, 26.0)
"""Where a label may stand, in pixels above its marker's middle; the first places are tried first."""
SAME_HEIGHT = 0.12
"""Roofs nearer than this power of ten share a line of text."""
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
    figure, axes = panel(HEIGHT, left=LEFT, right=RIGHT, top=TOP, bottom=BOTTOM, width=WIDTH)
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
    for dot in dots:
        x, y = _log(dot.intensity), _log(dot.flop_per_second)
        colour = SERIES[dot.number % len(SERIES)]
        marker = MARKERS[dot.number % len(MARKERS)]
        axes.plot([x], [y], marker, color=colour, markersize=9, markeredgecolor=SURFACE, markeredgewidth=1.2)
    for peak, label in _roof_labels(roofs):
        axes.text(right - 0.04, _log(peak) + 0.05, label, fontsize=12, color=MUTED, ha="right", va="bottom")
    pixels = (WIDTH - LEFT - RIGHT) / (right - left), (HEIGHT - TOP - BOTTOM) / (top - bottom)
    for dot, shift in _placed(dots, pixels):
        at = (_log(dot.intensity), _log(dot.flop_per_second))
        axes.annotate(dot.label, at, shift, textcoords="offset points", fontsize=11, color=MUTED)
    across, upwards = range(math.ceil(left), right + 1), range(math.ceil(bottom), top + 1)
    axes.set_xticks(across, [_power(power) for power in across])
    axes.set_yticks(upwards, [_power(power) for power in upwards])
    axes.set_xlabel("@intensity", fontsize=12, color=MUTED)
    return finish(figure, name, {"intensity": ("연산 강도 (FLOP/바이트)", "Arithmetic intensity (FLOP/byte)")})


def _roof_labels(roofs: Sequence[Roof]) -> list[tuple[float, str]]:
    """Peak and text of each line of labels, highest first; roofs at nearly one height share a line."""
    lines: list[list[Roof]] = []
    for roof in sorted(roofs, key=lambda roof: -roof.peak):
        if lines and _log(lines[-1][0].peak / roof.peak) < SAME_HEIGHT:
            lines[-1].append(roof)
        else:
            lines.append([roof])
    return [(line[0].peak, ", ".join(roof.label for roof in line)) for line in lines]


Box = tuple[float, float, float, float]
"""Left, bottom, right and top in pixels."""


def _placed(dots: Sequence[Dot], pixels: tuple[float, float]) -> list[tuple[Dot, tuple[float, float]]]:
    """Labels with their shifts from the markers in pixels: each where it covers nothing, or else the least.

    `pixels` are those of a power of ten across and upwards.
    """

    def middle(dot: Dot) -> tuple[float, float]:
        return _log(dot.intensity) * pixels[0], _log(dot.flop_per_second) * pixels[1]

    taken = [_box(middle(dot), (-MARKER / 2, -MARKER / 2), MARKER, MARKER) for dot in dots]
    placed = []
    for dot in _labelled(dots):
        width = len(dot.label) * LETTER_WIDTH
        boxes = {
            (right, up): _box(middle(dot), (right, up), width, LETTER_HEIGHT)
            for up in LABEL_HEIGHTS
            for right in (MARKER * 0.7, -MARKER * 0.7 - width)
        }
        shift = min(boxes, key=lambda shift: sum(_shared(boxes[shift], box) for box in taken))
        taken.append(boxes[shift])
        placed.append((dot, shift))
    return placed


def _box(at: tuple[float, float], shift: tuple[float, float], width: float, height: float) -> Box:
    left, bottom = at[0] + shift[0], at[1] + shift[1]
    return left, bottom, left + width, bottom + height


def _shared(one: Box, other: Box) -> float:
    """Area that two boxes share."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    upwards = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0.0) * max(upwards, 0.0)


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
