"""The precision study: the same work in several precisions, side by side, and what precision alone changes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.records import PRECISION_LEFT_OUT, Event, Measurement
from harness.report.lookup import Lookup
from harness.report.measurement_kinds import ELSEWHERE, KINDS, PRECISIONS, Kind
from harness.report.performance import condition, condition_keys, quartiles
from harness.report.precision_plot import Bar, loss_differences, precision_bars
from harness.report.tables import Column, Entry, Table
from harness.report.wording import NO_DATA, both, join, number, quantity, quantity_range

DRAWN = (
    "prefill_tokens_per_second",
    "decode_tokens_per_second",
    "training_step_seconds",
    "peak_torch_reserved_bytes",
    "peak_process_rss_bytes",
)
"""Measures that get a figure, where they were taken."""
OWN_EVENTS = (PRECISION_LEFT_OUT, "flips_left_out", "numeric_trouble")
IN_THE_LABEL = ("dtype", "quantization")
PHASES = {"generate": ("생성", "generation"), "train": ("학습", "training")}


@dataclass(frozen=True)
class Losses:
    """Losses of the same steps on the same tokens: a table, and a figure of the differences from the reference."""

    plot: Markup | None
    legend: tuple[tuple[int, str], ...]
    table: Table


@dataclass(frozen=True)
class PrecisionView:
    """What the section shows besides the flips."""

    table: Table
    reference: str
    figures: tuple[tuple[Markup, Markup], ...]
    losses: Losses | None


def measured(lookup: Lookup) -> list[Measurement]:
    """The measurements of the precision study."""
    return [
        item
        for item in lookup.summary.measurements
        if item.values
        and item.conditions.get("study") == "precision"
        and item.conditions.get("dtype") in PRECISIONS
        and not item.name.endswith(ELSEWHERE)
    ]


def label(dtype: object, quantization: object) -> str:
    """A precision's name: 'bfloat16', or 'bfloat16 · 4bit' for quantized weights."""
    return str(dtype) if quantization in (None, "none") else f"{dtype} · {quantization}"


def notes(lookup: Lookup) -> list[Event]:
    """What was left out of the study, and what went wrong with numbers in it. Each once."""
    return list({event.message: event for event in lookup.summary.events if event.code in OWN_EVENTS}.values())


def precision_view(lookup: Lookup) -> PrecisionView | None:
    """The section; None where precisions were not compared."""
    found = measured(lookup)
    if not found:
        return None
    present = order(lookup, found)
    groups = _groups(found)
    figures = []
    for (name, _, _), members in groups.items():
        if name in DRAWN and len(members) > 1:
            first = next(iter(members.values()))
            bars = [_bar(precision, members[precision]) for precision in present if precision in members]
            figures.append((_title(first), precision_bars(f"precision-{name}-{first.phase}", bars)))
    return PrecisionView(
        table=_table(lookup, groups, present),
        reference=present[0],
        figures=tuple(figures),
        losses=_losses(groups, present),
    )


def _precision(item: Measurement) -> str:
    return label(item.conditions["dtype"], item.conditions.get("quantization"))


def order(lookup: Lookup, found: Sequence[Measurement]) -> list[str]:
    """Precisions in the order of the suite's jobs, the first being the reference; others behind them."""
    asked = [job.parameters for job in lookup.summary.header.jobs if job.parameters.get("study") == "precision"]
    named = [label(parameters["dtype"], parameters.get("quantization")) for parameters in asked]
    rest = sorted(found, key=lambda item: (PRECISIONS.index(str(item.conditions["dtype"])), _precision(item)))
    present = {_precision(item) for item in found}
    return [name for name in dict.fromkeys([*named, *map(_precision, rest)]) if name in present]


Groups = dict[tuple[str, str, str], dict[str, Measurement]]
"""(name, model, everything else held fixed) -> precision -> measurement."""


def _groups(found: Sequence[Measurement]) -> Groups:
    groups: Groups = {}
    for item in found:
        fixed = sorted((key, str(value)) for key, value in item.conditions.items() if key not in IN_THE_LABEL)
        groups.setdefault((item.name, item.model, str(fixed)), {}).setdefault(_precision(item), item)
    position = {name: number for number, name in enumerate(KINDS)}
    return {key: groups[key] for key in sorted(groups, key=lambda key: (position.get(key[0], len(position)), key))}


def _title(item: Measurement) -> Markup:
    """A measure's name; memory is taken while generating and while training, and says which."""
    kind = KINDS.get(item.name, Kind(item.name, item.name, "other"))
    if kind.family != "memory" or item.phase not in PHASES:
        return both(kind.ko, kind.en)
    korean, english = PHASES[item.phase]
    return both(f"{kind.ko}: {korean}", f"{kind.en}: {english}")


def _bar(precision: str, item: Measurement) -> Bar:
    low, middle, high = quartiles(item.values)
    return Bar(precision, low, middle, high, quantity(middle, item.unit))


def _table(lookup: Lookup, groups: Groups, present: Sequence[str]) -> Table:
    """Measurements that differ in precision alone, each as a ratio of medians to the reference."""
    columns = [Column("측정", "Measurement"), *(Column(name, name, "number") for name in present)]
    return Table(columns, [_row(lookup, members, present) for members in groups.values()], css_class="precision")


def _row(lookup: Lookup, members: dict[str, Measurement], present: Sequence[str]) -> list[Entry]:
    first = next(members[precision] for precision in present if precision in members)
    kind = KINDS.get(first.name, Kind(first.name, first.name, "other"))
    direction = {
        True: both("높을수록 좋음", "higher is better"),
        False: both("낮을수록 좋음", "lower is better"),
        None: Markup(""),
    }[kind.higher_is_better]
    conditions = [condition(first, key) for key in condition_keys([first]) if key not in IN_THE_LABEL]
    title = Markup("{}<small>{}</small>").format(
        _title(first),
        join([part for part in (lookup.model(first.model), *conditions, direction) if part], " · "),
    )
    row = [Entry(title)]
    reference = quartiles(first.values)[1]
    for precision in present:
        item = members.get(precision)
        if item is None:
            row.append(Entry(both("재지 않음", "not measured")))
            continue
        low, middle, high = quartiles(item.values)
        note = _ratio_note(item, first, middle, reference)
        row.append(
            Entry(
                Markup('<b>{}</b> <span class="interval">{}</span>{}').format(
                    quantity(middle, item.unit), quantity_range(low, high, middle, item.unit), note
                )
            )
        )
    return row


def _ratio_note(item: Measurement, first: Measurement, middle: float, reference: float) -> Markup:
    reason = item.not_comparable or first.not_comparable
    if reason and item is not first:
        return Markup('<span class="flag" title="{}">{}</span>').format(reason, both("비교 불가", "not comparable"))
    if item is first:
        return Markup('<span class="ratio">{}</span>').format(both("기준", "reference"))
    if not reference:
        return Markup("")
    return Markup('<span class="ratio">× {:.2f}</span>').format(middle / reference)


def _losses(groups: Groups, present: Sequence[str]) -> Losses | None:
    """Losses of the first model that was trained in the reference precision and in another."""
    for (name, _, _), members in groups.items():
        if name == "training_loss" and len(members) > 1 and present[0] in members:
            break
    else:
        return None
    reference = members[present[0]].values
    columns = [
        Column("정밀도", "Precision"),
        Column("마지막 손실", "Last loss", "number"),
        Column("평균 |차이|", "Mean |difference|", "number"),
        Column("최대 |차이|", "Largest |difference|", "number"),
        Column("차이 (마지막)", "Last difference", "number"),
    ]
    rows, lines = [], {}
    for position, precision in enumerate(present):
        if precision not in members:
            continue
        values = members[precision].values
        differences = [loss - before for loss, before in zip(values, reference, strict=True)]
        finite = [abs(one) for one in differences if math.isfinite(one)]
        row = [Entry(precision), Entry(f"{values[-1]:.4f}", values[-1])]
        if position == 0:
            row += [Entry(both("기준", "reference")), Entry(NO_DATA), Entry(NO_DATA)]
        else:
            lines[position] = differences
            mean, largest = (statistics.fmean(finite), max(finite)) if finite else (None, None)
            row += [Entry(number(mean), mean), Entry(number(largest), largest), Entry(number(differences[-1]))]
        rows.append(row)
    return Losses(
        plot=loss_differences("precision-losses", lines),
        legend=tuple((position, present[position]) for position in lines),
        table=Table(columns, rows),
    )
