"""What tuning cost, as lines of the headline: ability lost, time to train, speed and memory in use."""

from __future__ import annotations

from collections.abc import Mapping

from markupsafe import Markup

from harness.report.advice import Level, Line
from harness.report.lookup import Lookup
from harness.report.ratios import conditions_key, median_of, ratio_range, ratios
from harness.report.wording import both, duration, join, p_value, percent, points, size
from harness.statistics import holm
from harness.summary import AbilityChange

TASKS_NAMED = 3
SPEED = "decode_tokens_per_second"
MEMORY = ("peak_nvml_process_bytes", "peak_torch_reserved_bytes", "peak_process_rss_bytes")
"""Peaks of the memory in use; of those that were measured the first is told."""


def first_changes(lookup: Lookup, model: str) -> list[AbilityChange]:
    """One change per task: of its first metric that is right or wrong per question."""
    first: dict[str, AbilityChange] = {}
    for change in lookup.summary.ability_changes:
        if change.model == model and change.p_value is not None:
            first.setdefault(change.task, change)
    return list(first.values())


def ability_line(lookup: Lookup, model: str) -> Line | None:
    """Whether ability was lost, over all tasks; p-values are corrected for their number by Holm's method."""
    changes = first_changes(lookup, model)
    if not changes:
        return None
    adjusted = holm([change.p_value or 0.0 for change in changes])
    tasks = sorted(zip(changes, adjusted, strict=True), key=lambda task: task[0].difference)
    moved = [task for task in tasks if task[1] < 1 - lookup.summary.confidence]
    if fallen := [task for task in moved if task[0].difference < 0]:
        level: Level = "act"
        korean = "능력이 뚜렷이 떨어졌습니다: 과제 {n}개 중 {k}개. {tasks}."
        english = "Ability fell significantly on {k} of {n} tasks: {tasks}."
        shown = fallen
    elif moved:
        level, shown = "good", moved[::-1]
        korean = "능력이 뚜렷이 떨어진 과제는 없고, {n}개 중 {k}개에서 뚜렷이 올랐습니다: {tasks}."
        english = "Ability fell significantly on no task and rose on {k} of {n}: {tasks}."
    else:
        level, shown = "note", tasks[:1]
        korean = (
            "과제 {n}개 모두 능력에 뚜렷한 변화가 없습니다. 변화가 가장 낮은 것: {tasks}. "
            "{loss}%p까지의 하락은 배제할 수 없습니다."
        )
        english = (
            "No significant change in ability on any of {n} tasks. The lowest change: {tasks}; a fall of up to {loss} "
            "points is not ruled out."
        )
        if len(tasks) == 1:
            korean = "능력에 뚜렷한 변화가 없습니다: {tasks}. {loss}%p까지의 하락은 배제할 수 없습니다."
            english = "No significant change in ability: {tasks}; a fall of up to {loss} points is not ruled out."
    interval = tasks[0][0].interval
    text = both(
        korean,
        english,
        n=len(tasks),
        k=len(shown),
        tasks=join([_task(lookup, *task) for task in shown[:TASKS_NAMED]]),
        loss=points(max(0.0, -interval.low) if interval else None).lstrip("+"),
    )
    return Line(level, text, "#ability", both("능력 보기", "See ability"))


def _task(lookup: Lookup, change: AbilityChange, p: float) -> Markup:
    values = {
        score.model: score.value
        for score in lookup.summary.abilities
        if (score.task, score.filter, score.metric) == (change.task, change.filter, change.metric)
    }
    before, after = percent(values.get(change.baseline)), percent(values.get(change.model))
    return Markup('{} <span class="nowrap">{} → {}</span> ({})').format(change.task, before, after, p_value(p))


def cost_line(lookup: Lookup, model: str) -> Line | None:
    """What training took, and the model's speed and memory as multiples of its baseline's; None if none is known."""
    parts = [part for part in (_training(lookup, model), _speed(lookup, model), _memory(lookup, model)) if part]
    if not parts:
        return None
    text = both("비용: {parts}.", "Cost: {parts}.", parts=join(parts))
    section = "#performance" if _speed(lookup, model) or _memory(lookup, model) else "#training"
    return Line("note", text, section, both("자세히", "Details"))


def _training(lookup: Lookup, model: str) -> Markup | None:
    adapter = _settings(lookup, model).get("adapter")
    name = adapter.get("trained_by") if isinstance(adapter, Mapping) else None
    for training in lookup.summary.trainings:
        if training.result.training == name:
            return both(
                "학습 {time}(메모리 최대 {memory})",
                "training {time} (peak memory {memory})",
                time=duration(training.result.seconds),
                memory=size(training.result.memory_peak_bytes),
            )
    return None


def _settings(lookup: Lookup, model: str) -> Mapping[str, object]:
    models = lookup.summary.header.suite.get("models")
    settings = models.get(model) if isinstance(models, Mapping) else None
    return settings if isinstance(settings, Mapping) else {}


def _speed(lookup: Lookup, model: str) -> Markup | None:
    found = _ratios(lookup, model, SPEED)
    if not found:
        return None
    baseline = lookup.summary.baselines[model]
    return both(
        "생성 속도는 {baseline}의 {times}배",
        "generation at {times} times the speed of {baseline}",
        times=ratio_range(found),
        baseline=baseline,
    )


def _memory(lookup: Lookup, model: str) -> Markup | None:
    for name in MEMORY:
        if found := _ratios(lookup, model, name):
            return both("메모리는 {times}배", "{times} times its memory", times=ratio_range(found))
    return None


def _ratios(lookup: Lookup, model: str, name: str) -> list[float]:
    """Medians of the model over those of its baseline, wherever both were measured under the same conditions."""
    return ratios(_medians(lookup, lookup.summary.baselines[model], name), _medians(lookup, model, name))


def _medians(lookup: Lookup, model: str, name: str) -> dict[str, float]:
    return {
        conditions_key(item): median_of(item)
        for item in lookup.summary.measurements
        if (item.model, item.name) == (model, name) and item.values and not item.not_comparable
    }
