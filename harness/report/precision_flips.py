"""Answers and verdicts that change from precision alone, as a table."""

from __future__ import annotations

from markupsafe import Markup

from harness.report.lookup import Lookup
from harness.report.performance import quartiles
from harness.report.precision import label
from harness.report.strips import share_strip
from harness.report.tables import Column, Entry, Table
from harness.report.wording import (
    NO_DATA,
    VERDICT_NAMES,
    both,
    join,
    number,
    p_value,
    percent,
    points,
    points_interval,
    share_interval,
)
from harness.summary import PrecisionFlips, Rate


def flips_table(lookup: Lookup) -> Table | None:
    """Every precision against the reference; None where no answers were compared."""
    flips = lookup.summary.precision_flips
    if not flips:
        return None
    columns = [
        Column("정밀도", "Precision"),
        Column("글자까지 같은 답변", "Equal answers", "number"),
        Column("0–100%", "0–100%", "plot"),
        Column("처음 달라지는 토큰", "First token that differs", "number"),
        Column("바뀐 판정", "Changed verdicts", "number"),
        Column("거절률 차이 (%p)", "Refusal rate (points)", "number"),
        Column("McNemar", "McNemar", "number"),
    ]
    return Table(columns, [_row(lookup, one, position) for position, one in enumerate(flips)], css_class="flips")


def _row(lookup: Lookup, one: PrecisionFlips, position: int) -> list[Entry]:
    reference = label(one.reference_dtype, one.reference_quantization)
    again = Markup(" ({})").format(both("같은 정밀도로 다시", "the same again")) if one.repeat else Markup("")
    name = Markup("<b>{}</b>{}<small>{} · {}</small>").format(
        label(one.dtype, one.quantization), again, lookup.model(one.model), both("기준 {r}", "against {r}", r=reference)
    )
    strip = NO_DATA if one.equal.value is None else share_strip([(position, one.equal.value, one.equal.interval)])
    changed = Markup("{}<small>{}</small>").format(_rate(one.verdict_flips), _changes(one))
    counts = both("새로 {gained}, 사라짐 {lost}", "{gained} gained, {lost} lost", gained=one.gained, lost=one.lost)
    difference = Markup('<b>{}</b> <span class="interval">{}</span><small>{}</small>').format(
        points(one.difference), points_interval(one.interval), counts
    )
    return [
        Entry(name),
        Entry(_rate(one.equal), one.equal.value),
        Entry(strip),
        Entry(_positions(one)),
        Entry(changed, one.verdict_flips.value),
        Entry(difference, one.difference),
        Entry(p_value(one.p_value), one.p_value),
    ]


def _rate(rate: Rate) -> Markup:
    return Markup('<b>{}</b> <span class="interval">{}</span><small>{} / {}</small>').format(
        percent(rate.value), share_interval(rate.interval), rate.count, rate.n
    )


def _positions(one: PrecisionFlips) -> str | Markup:
    if not one.first_differences:
        return NO_DATA
    low, middle, high = quartiles([float(position + 1) for position in one.first_differences])
    return Markup("<b>{}</b><small>{} – {} · n = {}</small>").format(
        number(middle), number(low), number(high), len(one.first_differences)
    )


def _changes(one: PrecisionFlips) -> Markup:
    """'refusal → compliance 3, …' in both languages."""
    parts = []
    for change, count in one.changes.items():
        before, after = (VERDICT_NAMES[verdict] for verdict in change.split(" → "))
        parts.append(both(f"{before[0]} → {after[0]} {count}", f"{before[1]} → {after[1]} {count}"))
    return join(parts)
