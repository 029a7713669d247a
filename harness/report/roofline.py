"""The roofline: what was achieved against what the machine can do, both measured.

Williams, Waterman and Patterson (2009): at an intensity of x operations per byte, no more than min(peak, bandwidth * x)
operations a second can be reached. Left of the ridge memory is the limit, right of it arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.records import Measurement
from harness.report.lookup import Lookup
from harness.report.measurement_kinds import LENGTHS, PRECISIONS
from harness.report.performance import quartiles
from harness.report.roofline_plot import Dot, Roof, roofline_panel
from harness.report.tables import Column, Entry, Table
from harness.report.wording import NO_DATA, both, join, number, percent, quantity, setting

PHASES: dict[str, tuple[str, str]] = {
    "prefill": ("입력 처리", "prefill"),
    "decode": ("생성", "decode"),
    "training": ("LoRA 학습", "LoRA training"),
}
SHORT_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
"""A longer word would reach over the next point."""
OWN_NAMES = {"copy_bytes_per_second", "matmul_flop_per_second"}


@dataclass(frozen=True)
class Achieved:
    """One measured phase at one point: medians."""

    model: str
    phase: str
    measurement: Measurement
    intensity: float
    flop_per_second: float
    bytes_per_second: float

    @property
    def line(self) -> tuple[str, str, str]:
        """Model, engine and phase, which share a colour."""
        return self.model, setting(self.measurement.conditions.get("engine", "")), self.phase


@dataclass(frozen=True)
class RooflineView:
    """What the section shows."""

    plot: Markup
    legend: tuple[tuple[int, Markup], ...]
    ceilings: Table
    table: Table
    remarks: tuple[str, ...]


def roofline_view(lookup: Lookup) -> RooflineView | None:
    """The section; None where the machine's limits were not measured."""
    found = [item for item in lookup.summary.measurements if item.values]
    copies = [item for item in found if item.name == "copy_bytes_per_second"]
    products = {str(item.conditions["dtype"]): item for item in found if item.name == "matmul_flop_per_second"}
    achieved = _achieved(found)
    if not copies or not achieved:
        return None
    bandwidth = max(copies[0].values)
    peaks = {dtype: max(products[dtype].values) for dtype in PRECISIONS if dtype in products}
    lines = list(dict.fromkeys(one.line for one in achieved))
    word = _precision if len({_batch(one) for one in achieved}) == 1 else _batch
    dots = [Dot(lines.index(one.line), one.intensity, one.flop_per_second, word(one)) for one in achieved]
    return RooflineView(
        plot=roofline_panel("roofline", [Roof(dtype, bandwidth, peak) for dtype, peak in peaks.items()], dots),
        legend=tuple((index, _line_name(lines, *line)) for index, line in enumerate(lines)),
        ceilings=_ceilings_table(copies[0], [products[dtype] for dtype in peaks]),
        table=_table(lookup, achieved, bandwidth, peaks),
        remarks=tuple(sorted({item.not_comparable for item in copies if item.not_comparable})),
    )


def _achieved(found: Sequence[Measurement]) -> list[Achieved]:
    by_key = {(item.name, item.job_id, str(item.conditions)): item for item in found}
    points = []
    for item in found:
        phase = item.name.removesuffix("_flop_per_second")
        intensity = by_key.get((f"{phase}_flop_per_byte", item.job_id, str(item.conditions)))
        if phase in PHASES and phase != item.name and intensity is not None:
            speed = quartiles(item.values)[1]
            per_byte = intensity.values[0]
            points.append(Achieved(item.model, phase, item, per_byte, speed, speed / per_byte))
    return sorted(points, key=lambda one: list(PHASES).index(one.phase))


def _batch(one: Achieved) -> str:
    return setting(one.measurement.conditions.get("batch_size"))


def _precision(one: Achieved) -> str:
    """The word beside a point where all have the same batch; 16-bit weights are named by their dtype."""
    conditions = one.measurement.conditions
    stored = setting(conditions.get("quantization", "none"))
    dtype = setting(conditions.get("dtype", ""))
    return SHORT_DTYPES.get(dtype, dtype) if stored == "none" else stored


def _line_name(lines: Sequence[tuple[str, str, str]], model: str, engine: str, phase: str) -> Markup:
    """The phase, with model and engine where there are several."""
    parts: list[object] = [model] if len({line[0] for line in lines}) > 1 else []
    if engine and len({line[1] for line in lines if line[1]}) > 1:
        parts.append(engine)
    return join([*parts, both(*PHASES[phase])], " · ")


def _ceilings_table(copy: Measurement, products: Sequence[Measurement]) -> Table:
    columns = [
        Column("한계", "Limit"),
        Column("가장 좋은 값", "Best", "number"),
        Column("중앙값", "Median", "number"),
        Column("방법", "Method"),
    ]
    names = [both("메모리 대역폭", "Memory bandwidth")]
    names += [both("행렬곱 {dtype}", "Matrix product {dtype}", dtype=item.conditions["dtype"]) for item in products]
    rows = []
    for name, item in zip(names, [copy, *products], strict=True):
        best, middle = max(item.values), quartiles(item.values)[1]
        flag = Markup("")
        if item.not_comparable:
            flag = Markup(' <span class="flag">{}</span>').format(both("비교 불가", "not comparable"))
        rows.append(
            [
                Entry(Markup("{}{}").format(name, flag)),
                Entry(Markup("<b>{}</b>").format(quantity(best, item.unit)), best),
                Entry(Markup("{}<small>n = {}</small>").format(quantity(middle, item.unit), len(item.values)), middle),
                Entry(Markup("<small>{}</small>").format(item.method)),
            ]
        )
    return Table(columns, rows, css_class="ceilings")


def _table(lookup: Lookup, achieved: Sequence[Achieved], bandwidth: float, peaks: dict[str, float]) -> Table:
    columns = [
        Column("작업", "Work"),
        Column("연산 강도", "Intensity", "number"),
        Column("달성", "Achieved", "number"),
        Column("그 강도의 한계", "Limit there", "number"),
        Column("한계 대비", "Share of the limit", "number"),
        Column("대역폭 대비", "Share of bandwidth", "number"),
    ]
    return Table(columns, [_row(lookup, one, bandwidth, peaks) for one in achieved], css_class="roofline")


def _row(lookup: Lookup, one: Achieved, bandwidth: float, peaks: dict[str, float]) -> list[Entry]:
    item = one.measurement
    peak = peaks.get(str(item.conditions.get("dtype")))
    limit = None if peak is None else min(peak, bandwidth * one.intensity)
    bound = Markup("")
    if limit is not None:
        words = ("연산", "arithmetic") if limit == peak else ("메모리", "memory")
        bound = Markup("<small>{}</small>").format(both(*words))
    # The least traffic of a training step is far from the real one, so its share would mislead.
    share_of_bandwidth = None if one.phase == "training" else one.bytes_per_second / bandwidth
    flag = Markup("")
    if item.not_comparable:
        flag = Markup(' <span class="flag">{}</span>').format(both("비교 불가", "not comparable"))
    return [
        Entry(Markup("<b>{}</b>{}<small>{}</small>").format(both(*PHASES[one.phase]), flag, _conditions(lookup, one))),
        Entry(f"{number(one.intensity)} FLOP/B", one.intensity),
        Entry(Markup("<b>{}</b>").format(quantity(one.flop_per_second, "FLOP/s")), one.flop_per_second),
        Entry(NO_DATA if limit is None else Markup("{}{}").format(quantity(limit, "FLOP/s"), bound), limit),
        Entry(NO_DATA if limit is None else Markup("<b>{}</b>").format(percent(one.flop_per_second / limit))),
        Entry(
            Markup("<b>{}</b><small>{}</small>").format(
                percent(share_of_bandwidth), quantity(one.bytes_per_second, "B/s")
            )
            if share_of_bandwidth is not None
            else NO_DATA,
            share_of_bandwidth,
        ),
    ]


def _conditions(lookup: Lookup, one: Achieved) -> Markup:
    conditions = one.measurement.conditions
    parts: list[object] = [
        lookup.model(one.model),
        both("배치 {n}", "batch {n}", n=conditions.get("batch_size", NO_DATA)),
    ]
    lengths = [setting(conditions[key]) for key in LENGTHS if key in conditions]
    parts.append("→".join(lengths))
    parts.append(conditions.get("dtype", ""))
    if conditions.get("quantization", "none") != "none":
        parts.append(conditions["quantization"])
    if conditions.get("engine", "plain") != "plain":
        parts.append(conditions["engine"])
    return join([part for part in parts if part], " · ")
