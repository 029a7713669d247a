"""`render_index`: all runs under results/ as one page, newest first."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from markupsafe import Markup
from pydantic import BaseModel, ConfigDict

from harness.records import GateReport, RunHeader
from harness.report.rendering import render
from harness.report.strips import series_class, share_strip
from harness.summary import Cell, Group, Summary

SHOWN_GROUPS: tuple[Group, ...] = ("harmful", "lookalike", "general")


class _Stored(BaseModel):
    """The part of a run's summary.json that the index needs."""

    model_config = ConfigDict(extra="ignore")

    complete: bool
    demonstration: bool = False
    random_weights: tuple[str, ...] = ()
    models: tuple[str, ...]
    cells: tuple[Cell, ...]
    gates: GateReport | None = None


@dataclass(frozen=True)
class RunEntry:
    """One line of the index. `link` is the page's address relative to the index; None while there is no page.

    `sentences` are the first ones of a run that asked nothing. `problem` says why a run's figures cannot be shown,
    where they cannot. `gates_failed` counts the gates that were not met, None where there were none to meet.
    """

    suite: str
    run_id: str
    started_at: str
    link: str | None
    complete: bool = False
    demonstration: bool = False
    random_weights: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    cells: tuple[Cell, ...] = field(default=())
    sentences: tuple[Markup, ...] = ()
    problem: str | None = None
    gates_failed: int | None = None


@dataclass(frozen=True)
class GroupLine:
    """Refusal rates of all models of a run on one group of prompts."""

    group: Group
    cells: tuple[Cell, ...]
    plot: Markup


def run_entry(header: RunHeader, summary_json: str, link: str | None) -> RunEntry:
    """A run's entry from its header and its stored summary; raises pydantic's ValidationError on another schema."""
    stored = _Stored.model_validate_json(summary_json)
    return RunEntry(
        suite=header.suite_name,
        run_id=header.run_id,
        started_at=header.started_at,
        link=link,
        complete=stored.complete,
        demonstration=stored.demonstration,
        random_weights=stored.random_weights,
        models=stored.models,
        gates_failed=None
        if stored.gates is None
        else sum(result.outcome != "passed" for result in stored.gates.results),
        cells=tuple(cell for cell in stored.cells if cell.category is None),
        sentences=() if stored.cells else _sentences(header, summary_json),
    )


def _sentences(header: RunHeader, summary_json: str) -> tuple[Markup, ...]:
    from harness.report.lookup import Lookup
    from harness.report.timing_headline import timing_headlines  # loads matplotlib

    summary = Summary.model_validate({**json.loads(summary_json), "header": header, "rows": ()})
    return tuple(headline.sentence for headline in timing_headlines(Lookup(summary)))


def group_lines(entry: RunEntry) -> list[GroupLine]:
    """The groups of prompts that the run has answers to."""
    lines = []
    for group in SHOWN_GROUPS:
        cells = tuple(cell for cell in entry.cells if cell.group == group and cell.refusal.value is not None)
        if cells:
            points = [
                (entry.models.index(cell.model), cell.refusal.value or 0, cell.refusal.interval) for cell in cells
            ]
            lines.append(GroupLine(group, cells, share_strip(points)))
    return lines


def render_index(entries: Iterable[RunEntry]) -> str:
    """The list of runs as one self-contained HTML page; the same entries give the same bytes."""
    newest_first = sorted(entries, key=lambda entry: (entry.started_at, entry.run_id), reverse=True)
    return render(
        "index.html.j2",
        entries=[(entry, group_lines(entry)) for entry in newest_first],
        series_class=series_class,
    )
