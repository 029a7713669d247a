"""Measurements as tables and figures: medians with quartiles, percentiles of latencies, ratios between precisions."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.records import Measurement, Scalar
from harness.report.lookup import Lookup
from harness.report.tables import Column, Entry, Table
from harness.report.wording import NO_DATA, both, join, number, percent, quantity, quantity_range, setting
from harness.summary import Summary

PRECISIONS = ("float32", "bfloat16", "float16")
RAW_VALUES_SHOWN = 400
PERCENTILES = (90, 99)
"""Of a latency, beside its median."""

LABELS: dict[str, tuple[str, str]] = {
    "batch_size": ("배치", "batch"),
    "prompt_tokens": ("입력 토큰", "tokens in"),
    "new_tokens": ("출력 토큰", "tokens out"),
    "dtype": ("정밀도", "precision"),
    "quantization": ("양자화", "quantization"),
}


SILENT = frozenset({"study", "warmup", "repeats", "training_steps"})
"""Conditions that say how a job was run and not what a figure means; they stand beside the raw values."""


@dataclass(frozen=True)
class Kind:
    """What is known about a measurement's name: its title, its family and which direction is better."""

    ko: str
    en: str
    family: str
    higher_is_better: bool | None = None
    percentiles: bool = False
    pooled: bool = False
    """Whether batch and lengths have no part in it, so that the values of several jobs are one series."""


KINDS: dict[str, Kind] = {
    "prefill_tokens_per_second": Kind("입력 처리 속도 (prefill)", "Prefill speed", "speed", True),
    "decode_tokens_per_second": Kind("생성 속도 (decode)", "Decode speed", "speed", True),
    "time_to_first_token_seconds": Kind("첫 토큰까지의 시간", "Time to first token", "speed", False),
    "inter_token_latency_seconds": Kind("토큰 사이 지연", "Inter-token latency", "speed", False, True),
    "generate_seconds": Kind("생성 한 번의 시간", "Time of one generation pass", "speed", False),
    "training_step_seconds": Kind("학습 단계 시간", "Training step time", "speed", False),
    "training_tokens_per_second": Kind("학습 속도", "Training speed", "speed", True),
    "adapter_training_step_seconds": Kind(
        "어댑터 학습의 단계 시간", "Step time of the adapter training", "speed", False
    ),
    "load_seconds": Kind("모델 적재 시간", "Model load time", "speed", False, pooled=True),
    "peak_process_rss_bytes": Kind("프로세스 최대 상주 메모리 (RSS)", "Peak process memory (RSS)", "memory", False),
    "peak_torch_allocated_bytes": Kind(
        "torch가 할당한 최대 GPU 메모리", "Peak GPU memory allocated by torch", "memory", False
    ),
    "peak_torch_reserved_bytes": Kind(
        "torch가 예약한 최대 GPU 메모리", "Peak GPU memory reserved by torch", "memory", False
    ),
    "peak_nvml_process_bytes": Kind(
        "NVML: 이 프로세스의 최대 GPU 메모리", "NVML: this process's peak GPU memory", "memory", False
    ),
    "peak_nvml_device_bytes": Kind("NVML: GPU 전체의 최대 사용량", "NVML: the whole GPU's peak use", "memory", False),
}

KINDS |= {
    f"adapter_training_{name}": Kind(f"어댑터 학습: {kind.ko}", f"Adapter training: {kind.en}", "memory", False)
    for name, kind in list(KINDS.items())
    if kind.family == "memory"
}


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

    The precision study has a table of its own and is left out here.
    """
    by_name: dict[str, list[Measurement]] = {}
    for measurement in lookup.summary.measurements:
        if measurement.values and measurement.conditions.get("study") != "precision":
            by_name.setdefault(measurement.name, []).append(measurement)
    names = [name for name in KINDS if name in by_name] + sorted(set(by_name) - set(KINDS))
    return [_section(lookup, name, by_name[name]) for name in names]


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
        key = (item.model, str([item.conditions.get(name) for name in ("dtype", "quantization")]), item.not_comparable)
        groups.setdefault(key, []).append(item)
    return [
        members[0].model_copy(
            update={
                "values": tuple(value for item in members for value in item.values),
                "conditions": {
                    key: value for key, value in members[0].conditions.items() if key in ("dtype", "quantization")
                },
            }
        )
        for members in groups.values()
    ]


def _table(lookup: Lookup, kind: Kind, found: Sequence[Measurement], varying: Sequence[str]) -> Table:
    """One row per set of conditions, one column per model, so that models measured alike stand side by side."""
    rows: dict[Markup, dict[str, list[Measurement]]] = {}
    for item in found:
        key = join([condition(item, name) for name in varying], " · ") or both("중앙값", "median")
        rows.setdefault(key, {}).setdefault(item.model, []).append(item)
    models = list(dict.fromkeys(item.model for item in found))
    columns = [Column("조건", "Conditions") if varying else Column("값", "Value")]
    columns += [Column(model, model, "number") for model in models]
    entries = []
    for conditions, by_model in rows.items():
        # Several jobs may have measured the same thing; each gets a row of its own.
        for turn in range(max(len(items) for items in by_model.values())):
            row = [Entry(conditions)]
            for model in models:
                items = by_model.get(model, [])
                baseline = by_model.get(lookup.summary.baselines.get(model, ""), [])
                reference = baseline[turn] if turn < len(baseline) else None
                row.append(_figure(lookup, kind, items[turn], reference) if turn < len(items) else Entry(NO_DATA))
            entries.append(row)
    return Table(columns, entries, css_class="figures-table")


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

    A model measured in several precisions gives one line per precision. Figures that must not be compared are
    left out, and of several measurements under the same conditions the first is drawn (the table has all).
    """
    lines: dict[str, dict[int, Measurement]] = {}
    if section.kind.family != "speed":
        return {}
    precisions = {item.conditions.get("dtype") for item in section.figures}
    for item in section.figures:
        batch = item.conditions.get("batch_size")
        if isinstance(batch, int) and not item.not_comparable:
            dtype = item.conditions.get("dtype")
            label = f"{item.model} · {dtype}" if len(precisions) > 1 and dtype else item.model
            lines.setdefault(label, {}).setdefault(batch, item)
    return {label: line for label, line in lines.items() if len(line) > 1}


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
            return (True, PRECISIONS.index(value) if value in PRECISIONS else len(PRECISIONS), value)
        return (False, float(value or 0), "")

    return [order(item.conditions.get(key)) for key in ("dtype", "quantization", "batch_size", "prompt_tokens")]


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
    if name == "peak_process_rss_bytes" or not gpus:
        return summary.header.environment.memory_bytes
    return gpus[0].memory_bytes
