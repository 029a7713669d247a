"""The precision study: the same work in float32, bfloat16 and float16, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from harness.records import Measurement
from harness.report.lookup import Lookup
from harness.report.performance import KINDS, PRECISIONS, Kind, condition, condition_keys, quartiles
from harness.report.tables import Column, Entry, Table
from harness.report.wording import both, join, quantity, quantity_range


def measured(lookup: Lookup) -> list[Measurement]:
    """The measurements of the precision study."""
    return [
        item
        for item in lookup.summary.measurements
        if item.values and item.conditions.get("study") == "precision" and item.conditions.get("dtype") in PRECISIONS
    ]


def precision_table(lookup: Lookup) -> Table | None:
    """Measurements that differ in dtype alone, side by side, each as a ratio of medians to the first precision."""
    groups: dict[tuple[str, str, str], dict[str, Measurement]] = {}
    for item in measured(lookup):
        others = str(sorted((key, str(value)) for key, value in item.conditions.items() if key != "dtype"))
        groups.setdefault((item.name, item.model, others), {}).setdefault(str(item.conditions["dtype"]), item)
    if not groups:
        return None
    present = [dtype for dtype in PRECISIONS if any(dtype in members for members in groups.values())]
    order = {name: position for position, name in enumerate(KINDS)}
    keys = sorted(groups, key=lambda key: (order.get(key[0], len(order)), key))
    columns = [Column("측정", "Measurement"), *(Column(dtype, dtype, "number") for dtype in present)]
    return Table(columns, [_precision_row(lookup, groups[key], present) for key in keys], css_class="precision")


def _precision_row(lookup: Lookup, members: dict[str, Measurement], present: Sequence[str]) -> list[Entry]:
    first = next(members[dtype] for dtype in present if dtype in members)
    kind = KINDS.get(first.name, Kind(first.name, first.name, "other"))
    direction = {
        True: both("높을수록 좋음", "higher is better"),
        False: both("낮을수록 좋음", "lower is better"),
        None: Markup(""),
    }[kind.higher_is_better]
    conditions = [condition(first, key) for key in condition_keys([first]) if key != "dtype"]
    label = Markup("{}<small>{}</small>").format(
        both(kind.ko, kind.en),
        join([part for part in (lookup.model(first.model), *conditions, direction) if part], " · "),
    )
    row = [Entry(label)]
    reference = quartiles(first.values)[1]
    for dtype in present:
        item = members.get(dtype)
        if item is None:
            row.append(Entry(both("재지 않음", "not measured")))
            continue
        low, middle, high = quartiles(item.values)
        note = _ratio_note(item, first, middle, reference)
        row.append(
            Entry(
                Markup('<b>{}</b><span class="interval">{}</span>{}').format(
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
