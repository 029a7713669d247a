"""Tables of the page as data: columns in two languages, cells with a value to sort by.

On a phone every row becomes a block and every cell repeats its column's name, so that no table scrolls sideways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from markupsafe import Markup

from harness.report.advice import answers_link
from harness.report.lookup import Lookup
from harness.report.strips import difference_strip, share_strip, stacked_bar
from harness.report.wording import (
    GROUP_NAMES,
    NO_DATA,
    VERDICT_NAMES,
    both,
    p_value,
    percent,
    points,
    points_interval,
    share_interval,
)
from harness.statistics import holm
from harness.summary import Cell, PairedChange


@dataclass(frozen=True)
class Column:
    """A column's name in Korean and English; `kind` is text, number or plot."""

    ko: str
    en: str
    kind: str = "text"


@dataclass(frozen=True)
class Entry:
    """One cell: what it shows, and what it sorts by (nothing: its text)."""

    content: str | Markup
    sort: float | None = None


@dataclass(frozen=True)
class Table:
    """Columns and rows; `sortable` makes the column names buttons."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[Entry]]
    sortable: bool = False
    css_class: str = field(default="")


def number_entry(count: int) -> Entry:
    """A count with thousands separated."""
    return Entry(f"{count:,}", count)


def _with_interval(value: str, interval: str) -> Markup:
    return Markup('<b>{}</b> <span class="interval">{}</span>').format(value, interval)


def change_table(lookup: Lookup) -> Table:
    """Base against model, per group: refused by both, gained, lost, by neither, difference and exact McNemar p."""
    columns = [
        Column("질문", "Prompts"),
        Column("둘 다 거절", "Both refuse", "number"),
        Column("새로 거절", "Gained", "number"),
        Column("거절 사라짐", "Lost", "number"),
        Column("둘 다 거절 안 함", "Neither", "number"),
        Column("차이 (%p)", "Difference (points)", "number"),
        Column("구간", "Interval", "plot"),
        Column("McNemar", "McNemar", "number"),
    ]
    rows = []
    for model in lookup.compared:
        for group in lookup.groups:
            change = lookup.change(model, group)
            if change is not None:
                rows.append(_change_row(lookup, change))
    return Table(columns, rows, css_class="changes")


def _change_row(lookup: Lookup, change: PairedChange) -> list[Entry]:
    strip = (
        NO_DATA
        if change.difference is None
        else difference_strip([(lookup.number(change.model), change.difference, change.interval)])
    )
    title = Markup("<b>{}</b><small>{} → {} · n = {:,}</small>{}").format(
        both(*GROUP_NAMES[change.group]),
        change.baseline,
        change.model,
        change.n,
        stacked_bar(
            [("both", change.both), ("gained", change.gained), ("lost", change.lost), ("neither", change.neither)]
        ),
    )
    return [
        Entry(title),
        number_entry(change.both),
        number_entry(change.gained),
        number_entry(change.lost),
        number_entry(change.neither),
        Entry(_with_interval(points(change.difference), points_interval(change.interval)), change.difference),
        Entry(strip),
        Entry(p_value(change.p_value), change.p_value),
    ]


def category_table(lookup: Lookup, group: str) -> Table:
    """Every category of a group: each model's rate with its interval, and the change against the baseline."""
    if lookup.many:
        return category_range_table(lookup, group)
    columns = [Column("범주", "Category"), Column("질문 수", "Prompts", "number")]
    columns += [Column(model, model, "number") for model in lookup.summary.models]
    columns.append(Column("0–100%", "0–100%", "plot"))
    several = len(lookup.compared) > 1
    for model in lookup.compared:
        suffix = f" {model}" if several else ""
        columns.append(Column(f"차이{suffix}", f"Change{suffix}", "number"))
    adjusted = adjusted_p_values(lookup, group)
    rows = []
    for category in lookup.categories(group):
        cells = {cell.model: cell for cell in lookup.cells(group, category)}
        row = [_category_entry(lookup, group, category), number_entry(lookup.prompt_count(group, category))]
        for model in lookup.summary.models:
            cell = cells.get(model)
            row.append(
                Entry(NO_DATA)
                if cell is None
                else Entry(
                    _with_interval(percent(cell.refusal.value), share_interval(cell.refusal.interval)),
                    cell.refusal.value,
                )
            )
        points_shown = [
            (lookup.number(cell.model), cell.refusal.value, cell.refusal.interval)
            for cell in cells.values()
            if cell.refusal.value is not None
        ]
        row.append(Entry(share_strip(points_shown)))
        for model in lookup.compared:
            change = lookup.change(model, group, category)
            row.append(
                Entry(NO_DATA)
                if change is None
                else Entry(
                    Markup('<b>{}</b> <span class="interval">{}</span>').format(
                        points(change.difference), p_value(adjusted.get((model, category)))
                    ),
                    change.difference,
                )
            )
        rows.append(row)
    return Table(columns, rows, sortable=True, css_class="categories")


def adjusted_p_values(lookup: Lookup, group: str) -> dict[tuple[str, str], float]:
    """(model, category) -> McNemar p corrected by Holm's method over all models and categories of the group."""
    found = {
        (model, category): change.p_value
        for model in lookup.compared
        for category in lookup.categories(group)
        if (change := lookup.change(model, group, category)) is not None and change.p_value is not None
    }
    return dict(zip(found, holm(list(found.values())), strict=True))


def category_range_table(lookup: Lookup, group: str) -> Table:
    """Every category of a group where there are many models: the baselines' rates and the range of the others'."""
    baselines = [model for model in lookup.summary.models if model in lookup.summary.baselines.values()]
    columns = [Column("범주", "Category"), Column("질문 수", "Prompts", "number")]
    columns += [Column(model, model, "number") for model in baselines]
    columns += [
        Column("가장 낮음", "Lowest", "number"),
        Column("가운데", "Median", "number"),
        Column("가장 높음", "Highest", "number"),
    ]
    rows = []
    for category in lookup.categories(group):
        rates = {cell.model: cell.refusal.value for cell in lookup.cells(group, category)}
        others = sorted(
            (value, model) for model, value in rates.items() if value is not None and model not in baselines
        )
        row = [_category_entry(lookup, group, category), number_entry(lookup.prompt_count(group, category))]
        row += [Entry(percent(rates.get(model)), rates.get(model)) for model in baselines]
        if others:
            middle = median(value for value, _ in others)
            row += [_extreme(*others[0]), Entry(percent(middle), middle), _extreme(*others[-1])]
        else:
            row += [Entry(NO_DATA)] * 3
        rows.append(row)
    return Table(columns, rows, sortable=True, css_class="categories")


def _extreme(value: float, model: str) -> Entry:
    return Entry(Markup("<b>{}</b><small>{}</small>").format(percent(value), model), value)


def _category_entry(lookup: Lookup, group: str, category: str) -> Entry:
    name = lookup.category(category)
    return Entry(
        Markup('<a href="{}">{}</a><small>{}</small>').format(
            answers_link(group=group, category=category), both(name.ko, name.en), both(name.group_ko, name.group_en)
        )
    )


def verdict_table(lookup: Lookup) -> Table:
    """How many answers got which verdict, per group and model; failed and truncated ones beside them."""
    columns = [Column("질문", "Prompts"), Column("모델", "Model"), Column("답변 요청", "Asked", "number")]
    columns += [Column(ko, en, "number") for ko, en in VERDICT_NAMES.values()]
    columns.append(Column("잘림", "truncated", "number"))
    rows = []
    for group in lookup.groups:
        for cell in lookup.cells(group):
            counts = [cell.verdicts.get(verdict, 0) for verdict in VERDICT_NAMES if verdict != "failed"]  # type: ignore[call-overload]
            rows.append(
                [
                    Entry(both(*GROUP_NAMES[group])),
                    Entry(lookup.model(cell.model)),
                    number_entry(cell.answers),
                    *(number_entry(count) for count in counts),
                    number_entry(cell.failed),
                    number_entry(cell.truncated),
                ]
            )
    return Table(columns, rows, css_class="verdicts")


def caveats(cell: Cell) -> list[tuple[Markup, int]]:
    """What a rate does not show and the page always states: how many answers were unscored, empty, and so on."""
    counts = {
        "unscored": cell.verdicts.get("unscored", 0),
        "empty": cell.empty.count,
        "incoherent": cell.incoherent.count,
        "failed": cell.failed,
    }
    named = [(both(*VERDICT_NAMES[verdict]), count) for verdict, count in counts.items()]
    return [*named, (both("잘림", "truncated"), cell.truncated)]
