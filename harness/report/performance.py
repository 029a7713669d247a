"""Measurements as tables and figures: medians with quartiles, percentiles of latencies, ratios between precisions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.records import Event, Measurement, Scalar
from harness.report.lookup import Lookup
from harness.report.measurement_kinds import (
    ELSEWHERE,
    ENGINES,
    KINDS,
    LABELS,
    LENGTHS,
    OF_THE_LOAD,
    PLOTTED,
    PRECISIONS,
    SILENT,
    Kind,
)
from harness.report.tables import Column, Entry, Table
from harness.report.wording import NO_DATA, both, join, number, percent, quantity, quantity_range, setting
from harness.summary import Summary

RAW_VALUES_SHOWN = 400
OWN_EVENTS = (
    "foreign_gpu_processes",
    "point_left_out",
    "engine_unsuited",
    "roofline_left_out",
    "memory_reserved",
    "energy_not_measured",
)
NAMES = (*PRECISIONS, *ENGINES)
"""Conditions with an order of their own."""
PERCENTILES = (90, 99)
"""Of a latency, beside its median."""


@dataclass(frozen=True)
class Section:
    """All measurements of one name, ready to be shown."""

    name: str
    kind: Kind
    title: Markup
    fixed: Markup
    methods: tuple[str, ...]
    table: Table
    raw: tuple[tuple[str, str], ...]
    remarks: tuple[tuple[str, str], ...]
    figures: tuple[Measurement, ...]

    def fastest(self) -> tuple[tuple[str, int, str], ...]:
        """Line of the plot, the batch where a speed peaks on it, and its median there; only for speeds."""
        if not self.kind.higher_is_better:
            return ()
        peaks = []
        for label, line in batch_lines(self).items():
            batch = max(line, key=lambda batch: quartiles(line[batch].values)[1])
            peaks.append((label, batch, quantity(quartiles(line[batch].values)[1], line[batch].unit)))
        return tuple(peaks)


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """First quartile, median, third quartile by linear interpolation between order statistics."""
    if len(values) == 1:
        return (values[0], values[0], values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def percentile(values: Sequence[float], rank: int) -> float:
    """The rank-th percentile (1 to 99) by linear interpolation between order statistics."""
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[rank - 1]


def sections(lookup: Lookup) -> list[Section]:
    """One section per measurement name: known names first in a fixed order, then the others by name.

    The precision study and the roofline have sections of their own and are left out here.
    """
    by_name: dict[str, list[Measurement]] = {}
    for measurement in lookup.summary.measurements:
        if (
            measurement.values
            and measurement.conditions.get("study") != "precision"
            and not measurement.name.endswith(ELSEWHERE)
        ):
            by_name.setdefault(measurement.name, []).append(measurement)
    names = [name for name in KINDS if name in by_name] + sorted(set(by_name) - set(KINDS))
    return [_section(lookup, name, by_name[name]) for name in names]


def notes(lookup: Lookup) -> list[Event]:
    """What a reader of the figures must know: points left out, others on the GPU, why there is no energy. Each once."""
    return list({event.message: event for event in lookup.summary.events if event.code in OWN_EVENTS}.values())


def _section(lookup: Lookup, name: str, found: list[Measurement]) -> Section:
    kind = KINDS.get(name, Kind(name, name, "other"))
    shown = _pooled(found) if kind.pooled else found
    shown = sorted(shown, key=lambda item: (lookup.number(item.model), _condition_order(item), item.job_id))
    varying = [key for key in condition_keys(shown) if len({item.conditions.get(key) for item in shown}) > 1]
    fixed = [condition(shown[0], key) for key in condition_keys(shown) if key not in varying]
    return Section(
        name=name,
        kind=kind,
        title=both(kind.ko, kind.en),
        fixed=join(fixed, " · "),
        methods=tuple(sorted({item.method for item in found})),
        table=_table(lookup, kind, shown, varying),
        raw=raw(found),
        remarks=remarks(shown),
        figures=tuple(shown),
    )


def raw(found: Sequence[Measurement]) -> tuple[tuple[str, str], ...]:
    """The values as measured, each series with its name and conditions."""
    return tuple((_label(item), _raw_values(item)) for item in found)


def remarks(found: Sequence[Measurement]) -> tuple[tuple[str, str], ...]:
    """Which figures must not be compared and why, each once."""
    pairs = {
        (
            " ".join([item.model, *(str(item.conditions[key]) for key in ("dtype",) if key in item.conditions)]),
            reason,
        ): None
        for item in found
        if (reason := item.not_comparable)
    }
    return tuple(pairs)


def _pooled(found: Sequence[Measurement]) -> list[Measurement]:
    """Measurements of the same model and precision made one, whatever batch their jobs went on to measure."""
    groups: dict[tuple[str, str, str | None], list[Measurement]] = {}
    for item in found:
        key = (item.model, str([item.conditions.get(name) for name in OF_THE_LOAD]), item.not_comparable)
        groups.setdefault(key, []).append(item)
    return [
        members[0].model_copy(
            update={
                "values": tuple(value for item in members for value in item.values),
                "conditions": {key: value for key, value in members[0].conditions.items() if key in OF_THE_LOAD},
            }
        )
        for members in groups.values()
    ]


Source = tuple[str, str]
"""What made a figure: a model, and the engine where one is named."""


def _table(lookup: Lookup, kind: Kind, found: Sequence[Measurement], varying: Sequence[str]) -> Table:
    """One row per set of conditions, one column per model and engine, so that what was measured alike stands side by
    side."""
    rows: dict[Markup, dict[Source, list[Measurement]]] = {}
    for item in found:
        key = join([condition(item, name) for name in varying if name != "engine"], " · ")
        rows.setdefault(key or both("중앙값", "median"), {}).setdefault(_source(item), []).append(item)
    sources = list(dict.fromkeys(_source(item) for item in found))
    columns = [Column("조건", "Conditions") if any(name != "engine" for name in varying) else Column("값", "Value")]
    for source in sources:
        title = " · ".join(part for part in source if part) if "engine" in varying else source[0]
        columns.append(Column(title, title, "number"))
    entries = []
    for conditions, by_source in rows.items():
        # Several jobs may have measured the same thing; each gets a row of its own.
        for turn in range(max(len(items) for items in by_source.values())):
            row = [Entry(conditions)]
            for source in sources:
                items = by_source.get(source, [])
                before = by_source.get(_held_against(lookup, source, sources), [])
                reference = before[turn] if turn < len(before) and before is not items else None
                row.append(_figure(lookup, kind, items[turn], reference) if turn < len(items) else Entry(NO_DATA))
            entries.append(row)
    return Table(columns, entries, css_class="figures-table")


def _source(item: Measurement) -> Source:
    return item.model, str(item.conditions.get("engine") or "")


def _held_against(lookup: Lookup, source: Source, sources: Sequence[Source]) -> Source:
    """The model's baseline by the same engine; of a model that has none, its own first engine."""
    model, engine = source
    if baseline := lookup.summary.baselines.get(model):
        return baseline, engine
    return next(one for one in sources if one[0] == model)


def _figure(lookup: Lookup, kind: Kind, item: Measurement, reference: Measurement | None) -> Entry:
    low, middle, high = quartiles(item.values)
    details = [] if len(item.values) == 1 else [quantity_range(low, high, middle, item.unit)]
    if kind.percentiles:
        details += [f"p{rank} {quantity(percentile(item.values, rank), item.unit)}" for rank in PERCENTILES]
    if kind.family == "memory" and (total := _memory_total(lookup.summary, item.name)):
        details.append(both("전체의 {share}", "{share} of the total", share=percent(middle / total)))
    details.append(f"n = {len(item.values):,}")
    details = [Markup('<span class="nowrap">{}</span>').format(detail) for detail in details]
    note = Markup("")
    if item.not_comparable:
        note = Markup('<span class="flag">{}</span>').format(both("비교 불가", "not comparable"))
    elif reference is not None and not reference.not_comparable and (base := quartiles(reference.values)[1]):
        note = Markup('<span class="ratio">× {:.2f}</span>').format(middle / base)
    text = Markup("<b>{}</b> {}<small>{}</small>").format(quantity(middle, item.unit), note, join(details, " · "))
    return Entry(text, middle)


def batch_lines(section: Section) -> dict[str, dict[int, Measurement]]:
    """Line label -> batch size -> measurement, for a figure over batch sizes; empty where there is just one size.

    A model measured in several precisions, at several lengths or by several engines gives one line for each. Figures
    that must not be compared are left out, and of several measurements under the same conditions the first is drawn
    (the table has all).
    """
    lines: dict[str, dict[int, Measurement]] = {}
    if section.kind.family not in PLOTTED:
        return {}
    varying = {
        key for key in ("dtype", "engine", *LENGTHS) if len({item.conditions.get(key) for item in section.figures}) > 1
    }
    for item in section.figures:
        batch = item.conditions.get("batch_size")
        if isinstance(batch, int) and not item.not_comparable:
            lines.setdefault(_line_label(item, varying), {}).setdefault(batch, item)
    return {label: line for label, line in lines.items() if len(line) > 1}


def _line_label(item: Measurement, varying: set[str]) -> str:
    parts = [item.model]
    parts += [str(item.conditions[key]) for key in ("dtype", "engine") if key in varying and item.conditions.get(key)]
    if varying & set(LENGTHS):
        parts.append("→".join(setting(item.conditions.get(key)) for key in LENGTHS))
    return " · ".join(parts)


def condition(item: Measurement, key: str) -> Markup:
    """A condition with its name: 'batch 8'."""
    name = both(*LABELS.get(key, (key, key)))
    return Markup('<span class="nowrap">{} <b>{}</b></span>').format(name, setting(item.conditions.get(key)))


def condition_keys(found: Sequence[Measurement]) -> list[str]:
    """The conditions that bear on the figures, in the page's order."""
    present = {key for item in found for key in item.conditions} - SILENT
    return [key for key in LABELS if key in present] + sorted(present - set(LABELS))


def _condition_order(item: Measurement) -> list[tuple[bool, float, str]]:
    def order(value: Scalar) -> tuple[bool, float, str]:
        if isinstance(value, str):
            return (True, NAMES.index(value) if value in NAMES else len(NAMES), value)
        return (False, float(value or 0), "")

    return [order(item.conditions.get(key)) for key in ("dtype", "quantization", "engine", "batch_size", *LENGTHS)]


def _label(item: Measurement) -> str:
    conditions = ", ".join(f"{key} {setting(value)}" for key, value in sorted(item.conditions.items()))
    return f"{item.name} · {item.model}" + (f" ({conditions})" if conditions else "")


def _raw_values(item: Measurement) -> str:
    shown = ", ".join(number(value) for value in item.values[:RAW_VALUES_SHOWN])
    rest = len(item.values) - RAW_VALUES_SHOWN
    return f"{shown} ({item.unit})" + (f" … (+{rest:,})" if rest > 0 else "")


def _memory_total(summary: Summary, name: str) -> int:
    """Bytes that a memory figure is a share of: the machine's memory for a process, else the first GPU's."""
    gpus = summary.header.environment.gpus
    if name.endswith("process_rss_bytes") or not gpus:
        return summary.header.environment.memory_bytes
    return gpus[0].memory_bytes
