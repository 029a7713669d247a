"""A run in Markdown, short enough for the summary of a CI job ($GITHUB_STEP_SUMMARY): gates, rates, ability, speed.

Every name and text from suites, models and machines is escaped, so that none becomes markup or a link.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from statistics import median

from harness.gates.ability import score_interval
from harness.gates.medians import median_interval
from harness.gates.speed import environment_differences
from harness.gates.words import (
    BUILT_IN,
    BUILT_IN_NOTE,
    GROUP_WORDS,
    about,
    compared,
    figure_text,
    interval_text,
    required,
    visible,
)
from harness.records import GateReport, GateResult, Measurement
from harness.report.wording import (
    NO_DATA,
    p_value,
    percent,
    points,
    points_interval,
    quantity,
    quantity_range,
    share_interval,
)
from harness.summary import Rate, Summary

MARKS = {"passed": "✅ passed", "failed": "❌ failed", "no_data": "❌ no data"}
SPEEDS = ("prefill_tokens_per_second", "decode_tokens_per_second", "served_tokens_per_second")
_MARKUP = re.compile(r"([\\`*_\[\]#|~@$]|[.:](?=[^\d\s]))")


def step_summary(summary: Summary) -> str:
    """The run's Markdown; the same summary gives the same bytes."""
    header = summary.header
    lines = [f"# {plain(header.suite_name)} · {plain(header.run_id)}", ""]
    if not summary.complete:
        lines += ["**This run is not complete.**", ""]
    if summary.demonstration:
        lines += ["*A demonstration model: its figures say nothing about real models.*", ""]
    if summary.gates is not None:
        lines += gate_lines(summary.gates)
    lines += _rate_lines(summary)
    lines += _ability_lines(summary)
    lines += _speed_lines(summary)
    lines += [f"Intervals are at {summary.confidence:.0%}. The whole report is in `report.html` of the run folder."]
    return "\n".join(lines) + "\n"


def comparison_summary(before: Summary, after: Summary, report: GateReport) -> str:
    """Two runs' Markdown: the gates of the later one against the earlier one."""
    title = " · ".join([after.header.suite_name, after.header.run_id])
    lines = [f"# {plain(title)} against {plain(before.header.run_id)}", "", *gate_lines(report)]
    differences = environment_differences(before, after)
    lines += [f"- {plain(key)}: {plain(old)} → {plain(new)}" for key, (old, new) in differences.items()]
    return "\n".join(lines).rstrip("\n") + "\n"


def plain(text: str) -> str:
    """Text that Markdown shows as it is: on one line, without markup, HTML, links, mentions or hidden characters."""
    shown = visible(" ".join(text.split()))
    shown = shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\1", shown)


def gate_lines(report: GateReport) -> list[str]:
    """The verdict and the table of gates."""
    results = report.results
    failed = [result for result in results if result.outcome != "passed"]
    verdict = f"❌ {len(failed)} of {len(results)} gates failed" if failed else f"✅ All {len(results)} gates passed"
    columns = ["", "Gate", "Model", "What", "Required", "Found", "Interval", "n"]
    rows = [_gate_row(result) for result in results]
    reasons = [f"- {plain(result.name)}: {plain(result.reason.en)}" for result in results if result.reason]
    notes = [f"- {plain(result.name)}: {plain(note.en)}" for result in results for note in result.notes]
    built_in = [plain(BUILT_IN_NOTE.en), ""] if report.source == BUILT_IN else []
    said = [*reasons, *notes, *([""] if reasons or notes else [])]
    return [f"## {verdict}", "", *built_in, *_table(columns, rows), *said]


def _gate_row(result: GateResult) -> list[str]:
    against = compared(result).en
    return [
        MARKS[result.outcome],
        plain(result.name),
        plain(result.subject),
        plain(about(result).en + (f", {against}" if against else "")),
        plain(required(result).en),
        NO_DATA if result.value is None else plain(figure_text(result, result.value)),
        plain(interval_text(result)) or NO_DATA,
        NO_DATA if result.n is None else f"{result.n:,}",
    ]


def _rate_lines(summary: Summary) -> list[str]:
    changes = {(change.model, change.group, change.category): change for change in summary.changes}
    rows = []
    for cell in summary.cells:
        if cell.category is not None or not cell.answers:
            continue
        change = changes.get((cell.model, cell.group, None))
        difference = [NO_DATA, NO_DATA]
        if change is not None and change.difference is not None:
            difference = [f"{points(change.difference)} {points_interval(change.interval)}", p_value(change.p_value)]
        rate = cell.refusal
        rows.append(
            [
                GROUP_WORDS[cell.group].en,
                plain(cell.model),
                percent(rate.value),
                share_interval(rate.interval) or NO_DATA,
                f"{rate.n:,}",
                *difference,
                _corrected(rate),
            ]
        )
    columns = ["Refusals of", "Model", "Rate", "Interval (%)", "n", "Change (points)", "McNemar", "Corrected"]
    return ["## Refusal and over-refusal", "", *_table(columns, rows)] if rows else []


def _corrected(rate: Rate) -> str:
    """The corrected rate and in which way it was made."""
    if rate.corrected is None:
        return NO_DATA
    way = f"{rate.labels:,} people's labels" if rate.corrected_by == "labels" else "grader's known error"
    return f"{percent(rate.corrected)} {share_interval(rate.corrected_interval)}, {way}"


def _ability_lines(summary: Summary) -> list[str]:
    changes = {(one.model, one.task, one.metric, one.filter): one for one in summary.ability_changes}
    rows = []
    for score in summary.abilities:
        change = changes.get((score.model, score.task, score.metric, score.filter))
        around = score_interval(score, summary.confidence)
        difference = NO_DATA
        if change is not None:
            bounds = "" if change.interval is None else f" [{change.interval.low:+.3f}, {change.interval.high:+.3f}]"
            difference = f"{change.difference:+.3f}{bounds}"
        rows.append(
            [
                plain(score.task),
                plain(score.metric),
                plain(score.model),
                f"{score.value:.3f}",
                NO_DATA if around is None else f"[{around.low:.3f}, {around.high:.3f}]",
                f"{score.n:,}",
                difference,
            ]
        )
    columns = ["Task", "Metric", "Model", "Score", "Interval", "n", "Change"]
    return ["## Ability", "", *_table(columns, rows)] if rows else []


def _speed_lines(summary: Summary) -> list[str]:
    measured = [one for one in summary.measurements if one.name in SPEEDS and one.values]
    rows = [_speed_row(one, summary.confidence) for one in measured if one.conditions.get("study") != "precision"]
    columns = ["Speed", "Model", "Batch", "Tokens in", "Tokens out", "Median", "Interval", "n"]
    return ["## Speed", "", *_table(columns, rows)] if rows else []


def _speed_row(one: Measurement, confidence: float) -> list[str]:
    middle, interval = median(one.values), median_interval(one.values, confidence)
    shape = [one.conditions.get(key) for key in ("batch_size", "prompt_tokens", "new_tokens")]
    return [
        plain(one.name.replace("_", " ")),
        plain(one.model),
        *(NO_DATA if value is None else plain(str(value)) for value in shape),
        quantity(middle, one.unit),
        NO_DATA if interval is None else f"[{quantity_range(*interval, middle, one.unit)}]",
        f"{len(one.values):,}",
    ]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{' - |' * len(columns)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""
