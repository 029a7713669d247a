"""Gates on the page: whether the run meets them, and what was judged, required and found."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from harness.gates.words import (
    BUILT_IN,
    BUILT_IN_NOTE,
    COUNTED_WORDS,
    OUTCOME_WORDS,
    about,
    compared,
    figure_text,
    interval_text,
    required,
    visible,
)
from harness.records import GateReport, GateResult, Said
from harness.report.tables import Column, Entry, Table
from harness.report.wording import NO_DATA, both


@dataclass(frozen=True)
class GatesView:
    """The section: how many there are and passed, the failed ones' names, the table, and what must be said of all."""

    total: int
    passed: int
    failed: tuple[str, ...]
    table: Table
    note: Markup | None


def gates_view(report: GateReport | None) -> GatesView | None:
    """Everything of the section, or None where there are no gates."""
    if report is None or not report.results:
        return None
    failed = [result for result in report.results if result.outcome != "passed"]
    columns = [
        Column("결과", "Result"),
        Column("기준", "Gate"),
        Column("조건", "Required", "number"),
        Column("측정값", "Found", "number"),
        Column("수", "n", "number"),
    ]
    return GatesView(
        total=len(report.results),
        passed=len(report.results) - len(failed),
        failed=tuple(dict.fromkeys(result.name for result in failed)),
        table=Table(columns, [_row(result) for result in report.results], css_class="gates"),
        note=_both(BUILT_IN_NOTE) if report.source == BUILT_IN else None,
    )


def _row(result: GateResult) -> list[Entry]:
    css_class = "flag calm" if result.outcome == "passed" else "flag"
    flag = Markup('<span class="{}">{}</span>').format(css_class, _both(OUTCOME_WORDS[result.outcome]))
    what, against = about(result), compared(result)
    details = [Markup("{} · {}").format(visible(result.subject), _both(what))]
    if against.en:
        details.append(_both(against))
    details += [_both(said) for said in (*([result.reason] if result.reason else []), *result.notes)]
    name = Markup("<b>{}</b>").format(result.name) + Markup("").join(
        Markup("<small>{}</small>").format(d) for d in details
    )
    figure = Markup(NO_DATA)
    if result.value is not None:
        text, interval = figure_text(result, result.value), interval_text(result)
        figure = Markup('<b>{}</b> <span class="interval">{}</span>').format(_in_korean(text), _in_korean(interval))
    n = Markup(NO_DATA)
    if result.n is not None:
        counted = COUNTED_WORDS[result.counted]
        english = counted.en.removesuffix("s") if result.n == 1 else counted.en
        n = both(f"{counted.ko} {result.n:,}개", f"{result.n:,} {english}")
    return [
        Entry(flag),
        Entry(name),
        Entry(_in_korean(required(result))),
        Entry(figure, result.value),
        Entry(n, result.n),
    ]


def _both(said: Said) -> Markup:
    return both(visible(said.ko), visible(said.en))


def _in_korean(text: str | Said) -> Markup:
    """Figures are written alike in both languages but for the unit of differences."""
    said = text if isinstance(text, Said) else Said(ko=text, en=text)
    return both(said.ko.replace(" points", "%p"), said.en)
