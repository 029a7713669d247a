"""The first lines of a page without prompts: how fast the models write, and what each precision costs and saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from harness.records import Measurement
from harness.report import precision
from harness.report.advice import Headline, Line
from harness.report.lookup import Lookup
from harness.report.measurement_kinds import ENGINES
from harness.report.ratios import conditions_key, median_of, ratio_range, ratios
from harness.report.wording import both, join, quantity

SPEED = "decode_tokens_per_second"
FIRST_TOKEN = "time_to_first_token_seconds"
COMPARED: dict[tuple[str, str], tuple[str, str]] = {
    ("prefill_tokens_per_second", "prefill"): ("입력 처리 속도", "prefill speed"),
    (SPEED, "decode"): ("생성 속도", "decode speed"),
    ("training_step_seconds", "train"): ("학습 단계 시간", "training step time"),
    ("peak_torch_reserved_bytes", "generate"): ("생성 메모리", "memory to generate"),
    ("peak_torch_reserved_bytes", "train"): ("학습 메모리", "memory to train"),
    ("peak_process_rss_bytes", "generate"): ("생성 메모리", "memory to generate"),
    ("peak_process_rss_bytes", "train"): ("학습 메모리", "memory to train"),
}
"""Name and phase of what is told of a precision, and its words."""


def timing_headlines(lookup: Lookup) -> list[Headline]:
    """One per model whose generation was timed, then one for the precision study; none where neither was done."""
    timed = (_speed(lookup, model) for model in lookup.summary.models)
    compared = _precision(lookup)
    return [headline for headline in (*timed, compared) if headline is not None]


def _speed(lookup: Lookup, model: str) -> Headline | None:
    found = _figures(lookup, model, SPEED)
    if not found:
        return None
    engines = [one for one in ENGINES if any(item.conditions.get("engine") == one for item in found)]
    best = max(found, key=median_of)
    sentence = both(
        "{model}: 초당 최대 {speed}을 생성합니다({where}).",
        "{model} writes up to {speed} ({where}).",
        model=model,
        speed=both("{n}토큰", "{n} tokens/s", n=Markup('<b class="number">{:,.0f}</b>').format(median_of(best))),
        where=_where(best, engines),
    )
    lines = [line for line in (_alone(lookup, model, found, engines), *_engines(found, engines)) if line]
    return Headline(model, sentence, tuple(lines))


def _figures(lookup: Lookup, model: str, name: str) -> list[Measurement]:
    return [
        item
        for item in lookup.summary.measurements
        if (item.model, item.name) == (model, name)
        and item.values
        and not item.not_comparable
        and item.conditions.get("study") != "precision"
    ]


def _where(item: Measurement, engines: Sequence[str]) -> Markup:
    parts = [both("배치 {n}", "batch {n}", n=item.conditions.get("batch_size"))]
    if len(engines) > 1:
        parts.append(both("엔진 {e}", "engine {e}", e=item.conditions.get("engine")))
    return join(parts)


def _alone(lookup: Lookup, model: str, found: Sequence[Measurement], engines: Sequence[str]) -> Line | None:
    """How fast one answer alone comes, by the engine that is fastest at it."""
    alone = [item for item in found if item.conditions.get("batch_size") == 1]
    if not alone:
        return None
    best = max(alone, key=median_of)
    first = [item for item in _figures(lookup, model, FIRST_TOKEN) if item.conditions == best.conditions]
    text = both(
        "답 하나만 생성할 때는 초당 {n}토큰입니다({where}{first_ko}).",
        "One answer alone: {n} tokens/s ({where}{first_en}).",
        n=f"{median_of(best):,.0f}",
        where=_where(best, engines),
        first_ko="".join(f", 첫 토큰까지 {quantity(median_of(item), item.unit)}" for item in first[:1]),
        first_en="".join(f", first token after {quantity(median_of(item), item.unit)}" for item in first[:1]),
    )
    return Line("note", text, "#performance", both("자세히", "Details"))


def _engines(found: Sequence[Measurement], engines: Sequence[str]) -> list[Line]:
    """Each further engine against the first, wherever both measured the same batch and lengths."""
    by_engine: dict[str, dict[str, float]] = {}
    for item in found:
        by_engine.setdefault(str(item.conditions.get("engine")), {})[conditions_key(item, "engine")] = median_of(item)
    lines = []
    for engine in engines[1:]:
        times = ratios(by_engine[engines[0]], by_engine[engine])
        if times:
            text = both(
                "엔진 {engine}의 생성 속도는 {first}의 {times}배입니다.",
                "Engine {engine} decodes {times} times as fast as {first}.",
                engine=engine,
                first=engines[0],
                times=ratio_range(times),
            )
            lines.append(Line("good" if min(times) > 1 else "note", text))
    return lines


def _precision(lookup: Lookup) -> Headline | None:
    """The precision study: a sentence on what the leanest precision saves and costs, and a line on each."""
    study = [item for item in precision.measured(lookup) if not item.not_comparable]
    if not study:
        return None
    reference = precision.order(lookup, study)[0]
    medians: dict[str, dict[tuple[str, str], float]] = {}
    for item in study:
        if (item.name, item.phase) in COMPARED:
            name = precision.label(item.conditions["dtype"], item.conditions.get("quantization"))
            medians.setdefault(name, {}).setdefault((item.name, item.phase), median_of(item))
    before = medians.pop(reference, {})
    told = {name: _times(before, after) for name, after in medians.items()}
    if not any(told.values()):
        return None
    memory = {
        name: times[key]
        for name, times in told.items()
        for key in times
        if key[0].startswith("peak") and key[1] == "generate"
    }
    model = study[0].model
    if memory and min(memory.values()) < 1:
        leanest = min(memory, key=lambda name: memory[name])
        sentence = both(
            "{model}: 생성 메모리가 가장 적은 것은 {name}입니다({reference}의 {times}배).",
            "{model}: {name} generates in {times} times the memory of {reference}.",
            model=model,
            name=leanest,
            reference=reference,
            times=Markup('<b class="number">{:.2f}</b>').format(memory[leanest]),
        )
    else:
        sentence = both(
            "{model}: 정밀도 비교의 기준은 {reference}입니다.",
            "{model}: precisions against {reference}.",
            model=model,
            reference=reference,
        )
    lines = [_line(name, reference, times) for name, times in told.items() if times]
    return Headline(model, sentence, tuple(lines))


def _times(
    before: Mapping[tuple[str, str], float], after: Mapping[tuple[str, str], float]
) -> dict[tuple[str, str], float]:
    return {key: after[key] / before[key] for key in COMPARED if before.get(key) and key in after}


def _line(name: str, reference: str, times: Mapping[tuple[str, str], float]) -> Line:
    parts = [
        Markup('{} <span class="nowrap">× {:.2f}</span>').format(both(*COMPARED[key]), value)
        for key, value in times.items()
    ]
    text = both(
        "{reference} 대비 {name}: {parts}.",
        "{name} against {reference}: {parts}.",
        reference=reference,
        name=name,
        parts=join(parts),
    )
    return Line("note", text, "#precision", both("자세히", "Details"))
