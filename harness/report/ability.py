"""General ability (lm-eval) as data for the page: beside the refusal rates, and every metric of every task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.report.lookup import Lookup
from harness.report.price import first_changes
from harness.report.strips import difference_strip, share_strip
from harness.report.tables import Column, Entry, Table
from harness.report.wording import (
    GROUP_NAMES,
    NO_DATA,
    both,
    number,
    p_value,
    percent,
    points,
    points_interval,
)
from harness.statistics import normal_quantile
from harness.summary import AbilityChange, AbilityScore, Interval, PairedChange

SIDE_BY_SIDE_TASKS = 12
"""Tasks in the short table; the long one has them all."""


@dataclass(frozen=True)
class AbilityView:
    """The two tables; `side_by_side` has no rows where nothing is compared."""

    side_by_side: Table
    scores: Table


def ability_view(lookup: Lookup) -> AbilityView | None:
    """Everything of the section, or None where the suite tests no ability."""
    if not lookup.summary.abilities:
        return None
    return AbilityView(_side_by_side(lookup), _scores(lookup))


def _side_by_side(lookup: Lookup) -> Table:
    """What tuning did to refusals and to ability, one line each, all as paired differences on one scale."""
    columns = [
        Column("무엇", "What"),
        Column("기준", "Baseline", "number"),
        Column("비교 모델", "Model", "number"),
        Column("차이 (%p)", "Difference (points)", "number"),
        Column("구간", "Interval", "plot"),
        Column("McNemar", "McNemar", "number"),
    ]
    rows = []
    for model in lookup.compared:
        rows += _refusal_rows(lookup, model) + _ability_rows(lookup, model)
    return Table(columns, rows, css_class="changes")


def _refusal_rows(lookup: Lookup, model: str) -> list[list[Entry]]:
    rows = []
    for group in lookup.groups:
        cells = lookup.cell(lookup.summary.baselines[model], group), lookup.cell(model, group)
        change = lookup.change(model, group)
        if change is not None:
            name = both("{group}: 거절률", "{group}: refusal rate", group=both(*GROUP_NAMES[group]))
            rows.append(_line(lookup, name, [cell.refusal.value if cell else None for cell in cells], change))
    return rows


def _ability_rows(lookup: Lookup, model: str) -> list[list[Entry]]:
    """One line per task: its first metric that is right or wrong per question."""
    values = {(s.task, s.filter, s.metric, s.model): s.value for s in lookup.summary.abilities}
    rows = []
    for change in first_changes(lookup, model)[:SIDE_BY_SIDE_TASKS]:
        measure = change.task, change.filter, change.metric
        shares = [values.get((*measure, name)) for name in (change.baseline, model)]
        rows.append(_line(lookup, Markup("{}: {}").format(change.task, change.metric), shares, change))
    return rows


def _line(
    lookup: Lookup, name: Markup, shares: Sequence[float | None], change: AbilityChange | PairedChange
) -> list[Entry]:
    what = Markup("<b>{}</b><small>{} → {} · n = {:,}</small>").format(name, change.baseline, change.model, change.n)
    difference = Markup('<b>{}</b> <span class="interval">{}</span>').format(
        points(change.difference), points_interval(change.interval)
    )
    points_shown = [] if change.difference is None else [(change.difference, change.interval)]
    return [
        Entry(what),
        *(Entry(percent(share), share) for share in shares),
        Entry(difference, change.difference),
        Entry(difference_strip([(lookup.number(change.model), *point) for point in points_shown])),
        Entry(p_value(change.p_value), change.p_value),
    ]


def _scores(lookup: Lookup) -> Table:
    """Every metric: each model's value with its standard error, and the paired change."""
    several = len(lookup.compared) > 1
    columns = [Column("과제", "Task"), Column("지표", "Metric")]
    columns += [Column(model, model, "number") for model in lookup.summary.models]
    columns.append(Column("0–100%", "0–100%", "plot"))
    for model in lookup.compared:
        suffix = f" {model}" if several else ""
        columns.append(Column(f"짝지은 차이{suffix}", f"Paired change{suffix}", "number"))
    measures = dict.fromkeys((score.task, score.filter, score.metric) for score in lookup.summary.abilities)
    by_model = {(s.task, s.filter, s.metric, s.model): s for s in lookup.summary.abilities}
    changes = {(c.task, c.filter, c.metric, c.model): c for c in lookup.summary.ability_changes}
    rows = []
    for measure in measures:
        scores = {model: by_model.get((*measure, model)) for model in lookup.summary.models}
        present = [score for score in scores.values() if score is not None]
        is_share = all(0 <= score.value <= 1 for score in present)
        row = [_task_entry(present[0]), Entry(_metric_name(present[0]))]
        row += [Entry(NO_DATA) if score is None else _score_entry(score, is_share) for score in scores.values()]
        row.append(Entry(_strip(lookup, present) if is_share else NO_DATA))
        row += [_change_entry(changes.get((*measure, model)), is_share) for model in lookup.compared]
        rows.append(row)
    return Table(columns, rows, sortable=True, css_class="categories")


def _task_entry(score: AbilityScore) -> Entry:
    group = both(" · 묶음", " · group") if score.group else Markup("")
    return Entry(Markup("{}<small>n = {:,}{}</small>").format(score.task, score.n, group))


def _metric_name(score: AbilityScore) -> Markup:
    better = {
        True: both("높을수록 좋음", "higher is better"),
        False: both("낮을수록 좋음", "lower is better"),
        None: Markup(""),
    }
    extraction = "" if score.filter == "none" else f" ({score.filter})"
    return Markup("{}{}<small>{}</small>").format(score.metric, extraction, better[score.higher_is_better])


def _score_entry(score: AbilityScore, is_share: bool) -> Entry:
    if score.stderr is None:
        error = both("표준오차 없음", "no standard error")
    else:
        error = Markup("± {}").format(f"{score.stderr * 100:.1f}" if is_share else number(score.stderr))
    value = percent(score.value) if is_share else number(score.value)
    return Entry(Markup('<b>{}</b> <span class="interval">{}</span>').format(value, error), score.value)


def _strip(lookup: Lookup, scores: list[AbilityScore]) -> Markup:
    quantile = normal_quantile(lookup.summary.confidence)
    lanes = []
    for score in scores:
        half = None if score.stderr is None else quantile * score.stderr
        interval = None if half is None else Interval(low=max(0, score.value - half), high=min(1, score.value + half))
        lanes.append((lookup.number(score.model), score.value, interval))
    return share_strip(lanes)


def _change_entry(change: AbilityChange | None, is_share: bool) -> Entry:
    if change is None:
        return Entry(NO_DATA)
    if is_share:
        text, interval = points(change.difference), points_interval(change.interval)
    else:
        text = number(change.difference)
        interval = f"[{number(change.interval.low)}, {number(change.interval.high)}]" if change.interval else ""
    counts = Markup("")
    if change.gained is not None:
        counts = Markup("<small>+{:,} −{:,} · {}</small>").format(change.gained, change.lost, p_value(change.p_value))
    return Entry(
        Markup('<b>{}</b> <span class="interval">{}</span>{}').format(text, interval, counts), change.difference
    )
