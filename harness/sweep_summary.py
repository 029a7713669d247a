"""From a sweep's answers to what the page shows of it. Pure: no files, no clock, no torch.

Models that differ in nothing but their seeds are one setting. Settings are compared where the comparison can be read:
if they differ in one swept key, or if one is the other's baseline.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy

from harness.records import SweepPoint, TaskSample
from harness.statistics import holm
from harness.summary import (
    Interval,
    SettingDifference,
    SettingRate,
    SweepMeasure,
    SweepSetting,
    SweepSummary,
)
from harness.sweep_statistics import Table, difference_over_seeds, mean_over_seeds

MEASURES: tuple[SweepMeasure, ...] = get_args(SweepMeasure)
Question = tuple[object, ...]
"""What identifies a prompt or a task's question."""
Decided = Mapping[Question, bool]
"""Question -> refused (or, for ability, right); without those that nothing was decided on."""
DecidedBy = Mapping[tuple[SweepMeasure, str], Decided]
"""(measure, model) -> its decisions."""


@dataclass(frozen=True)
class _Setting:
    name: str
    swept: str
    values: dict[str, Any]
    models: tuple[str, ...]


def summarise_sweep(
    points: Sequence[SweepPoint],
    models: Sequence[str],
    baselines: Mapping[str, str],
    trained: Iterable[str],
    refused: Mapping[SweepMeasure, Callable[[str], Decided]],
    samples: Iterable[TaskSample],
    confidence: float,
) -> SweepSummary | None:
    """Rates of every setting and the tests between them; None where the suite sweeps nothing.

    `refused` gives, for each group of prompts, a model's decisions; `trained` are the models whose adapter the suite
    trains; `baselines` maps a model to the one it is compared with. Intervals are two-sided at `confidence`.
    """
    if not points:
        return None
    settings = _settings(points, models)
    ability, tasks = _ability(samples)
    decided: dict[tuple[SweepMeasure, str], Decided]
    decided = {(measure, model): of_model(model) for measure, of_model in refused.items() for model in models}
    decided |= {("ability", model): right for model, right in ability.items()}
    differences = _differences(settings, baselines, decided, confidence)
    of_suite = set(trained)
    return SweepSummary(
        settings=tuple(
            SweepSetting(
                name=setting.name,
                swept=setting.swept,
                values=setting.values,
                models=setting.models,
                trained=bool(of_suite & set(setting.models)),
                rates=tuple(_rates(setting, decided, confidence)),
            )
            for setting in settings
        ),
        differences=differences,
        ability_tasks=tasks,
    )


def _settings(points: Sequence[SweepPoint], models: Sequence[str]) -> list[_Setting]:
    """All models grouped by setting, in the order of the models."""
    by_model = {point.model: point for point in points}
    grouped: dict[str, list[str]] = {}
    for model in models:
        point = by_model.get(model)
        grouped.setdefault(point.setting if point else model, []).append(model)
    settings = []
    for name, members in grouped.items():
        point = by_model.get(members[0])
        values = point.values if point else {}
        settings.append(_Setting(name, point.swept if point else name, values, tuple(members)))
    return settings


def _ability(samples: Iterable[TaskSample]) -> tuple[dict[str, Decided], tuple[str, ...]]:
    """Model -> question -> right or wrong, by the first metric of each task that is 0 or 1 for every question."""
    scores: dict[tuple[str, str, str], dict[tuple[str, Question], float]] = {}
    for sample in samples:
        for metric, score in sample.scores.items():
            measure = scores.setdefault((sample.task, sample.filter, metric), {})
            measure[sample.model, (sample.task, sample.doc_id, sample.doc_hash)] = score
    chosen: dict[str, str] = {}
    right: dict[str, dict[Question, bool]] = {}
    for (task, _, metric), values in scores.items():
        if task not in chosen and set(values.values()) <= {0.0, 1.0}:
            chosen[task] = metric
            for (model, question), score in values.items():
                right.setdefault(model, {})[question] = score == 1
    return dict(right), tuple(f"{task} ({metric})" for task, metric in chosen.items())


def _rates(setting: _Setting, decided: DecidedBy, confidence: float) -> Iterable[SettingRate]:
    for measure in MEASURES:
        tables = _tables([setting], measure, decided)
        if tables:
            value, bounds = mean_over_seeds(tables[0], confidence)
            yield SettingRate(
                measure=measure,
                n=tables[0].shape[1],
                value=value,
                interval=Interval(low=bounds.low, high=bounds.high),
                by_seed=tuple(float(share) for share in tables[0].mean(axis=1)),
            )


def _tables(settings: Sequence[_Setting], measure: SweepMeasure, decided: DecidedBy) -> list[Table] | None:
    """One table per setting over the questions that all models of all the settings decided; None if there are none."""
    of_models = [[decided.get((measure, model), {}) for model in setting.models] for setting in settings]
    first, *others = [answers for answers_of_setting in of_models for answers in answers_of_setting]
    questions = [question for question in first if all(question in other for other in others)]
    if not questions:
        return None
    return [
        numpy.array([[answers[question] for question in questions] for answers in answers_of_setting], dtype=float)
        for answers_of_setting in of_models
    ]


def _differences(
    settings: Sequence[_Setting],
    baselines: Mapping[str, str],
    decided: DecidedBy,
    confidence: float,
) -> tuple[SettingDifference, ...]:
    found = []
    for measure, (one, other) in itertools.product(MEASURES, itertools.combinations(settings, 2)):
        if not _comparable(one, other, baselines):
            continue
        tables = _tables([other, one], measure, decided)  # the later minus the earlier, as tuned minus base
        if tables:
            found.append(
                (measure, other, one, tables[0].shape[1], difference_over_seeds(tables[0], tables[1], confidence))
            )
    adjusted = holm([difference.p_value for *_, difference in found])
    return tuple(
        SettingDifference(
            measure=measure,
            first=first.name,
            second=second.name,
            n=n,
            difference=difference.value,
            interval=Interval(low=difference.interval.low, high=difference.interval.high),
            p_value=difference.p_value,
            adjusted=p_value,
        )
        for (measure, first, second, n, difference), p_value in zip(found, adjusted, strict=True)
    )


def _comparable(one: _Setting, other: _Setting, baselines: Mapping[str, str]) -> bool:
    """Whether two settings differ in one swept key or in the swept model alone, or are baseline and model."""
    if {baselines.get(model) for model in one.models} & set(other.models):
        return True
    if {baselines.get(model) for model in other.models} & set(one.models):
        return True
    if not one.values or one.values.keys() != other.values.keys():
        return False
    changed = sum(bool(one.values[key] != other.values[key]) for key in one.values)
    return changed + int(one.swept != other.swept) == 1
