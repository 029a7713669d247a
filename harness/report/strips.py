"""Small interval plots that stand inside table cells, drawn as SVG without any style attribute.

They share one horizontal scale per column (a share from 0 to 1, or a difference from -1 to 1), so that a column
of them reads as one plot.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from harness.summary import Interval

WIDTH, LANE, MARGIN = 200.0, 14.0, 7.0
SERIES_COUNT = 6

Point = tuple[int, float, Interval | None]
"""Series number, value, interval."""


def series_class(series: int) -> str:
    """CSS class that carries a model's colour; models beyond the palette's end start it again."""
    return f"s{series % SERIES_COUNT + 1}"


def share_strip(points: Sequence[Point]) -> Markup:
    """Shares on an axis from 0 to 1, one lane per point."""
    return _strip(points, low=0.0, high=1.0, ticks=(0.0, 0.25, 0.5, 0.75, 1.0), reference=None)


def difference_strip(points: Sequence[Point], reach: float = 1.0) -> Markup:
    """Differences of shares on an axis from -reach to reach with a line at zero."""
    return _strip(points, low=-reach, high=reach, ticks=(-reach, 0.0, reach), reference=0.0)


def stacked_bar(parts: Sequence[tuple[str, float]]) -> Markup:
    """One bar split into parts (CSS class, count), as wide as their sum."""
    total = sum(count for _, count in parts) or 1
    pieces, left = [], 0.0
    for css_class, count in parts:
        width = WIDTH * count / total
        if count:
            pieces.append(
                Markup('<rect class="{}" x="{:.2f}" y="0" width="{:.2f}" height="12"/>').format(css_class, left, width)
            )
        left += width
    return Markup(
        '<svg class="bar" viewBox="0 0 {:.0f} 12" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
    ).format(WIDTH, Markup("").join(pieces))


def _strip(points: Sequence[Point], low: float, high: float, ticks: Sequence[float], reference: float | None) -> Markup:
    def x(value: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * (min(max(value, low), high) - low) / (high - low)

    height = LANE * max(len(points), 1) + 2
    pieces = [
        Markup('<line class="{}" x1="{:.1f}" x2="{:.1f}" y1="0" y2="{:.0f}"/>').format(
            "zero" if tick == reference else "tick", x(tick), x(tick), height
        )
        for tick in ticks
    ]
    for lane, (series, value, interval) in enumerate(points):
        y = LANE * (lane + 0.5) + 1
        css_class = series_class(series)
        if interval is not None:
            pieces.append(
                Markup('<line class="range {}" x1="{:.1f}" x2="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>').format(
                    css_class, x(interval.low), x(interval.high), y, y
                )
            )
        pieces.append(_marker(series, css_class, x(value), y))
    return Markup('<svg class="strip" viewBox="0 0 {:.0f} {:.0f}" aria-hidden="true">{}</svg>').format(
        WIDTH, height, Markup("").join(pieces)
    )


def _marker(series: int, css_class: str, x: float, y: float) -> Markup:
    """The model's own shape beside its own colour, for readers who cannot tell the colours apart."""
    shape = series % SERIES_COUNT
    if shape == 0:
        return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="4.5"/>').format(css_class, x, y)
    if shape == 1:
        return Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="8" height="8"/>').format(css_class, x - 4, y - 4)
    corners = {
        2: ((0, -5.5), (5.5, 0), (0, 5.5), (-5.5, 0)),
        3: ((0, -5), (5, 4), (-5, 4)),
        4: ((0, 5), (5, -4), (-5, -4)),
        5: ((-2, -5), (2, -5), (2, 5), (-2, 5)),
    }[shape]
    path = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)
    return Markup('<polygon class="{}" points="{}"/>').format(css_class, path)
