"""From the records of lm-eval jobs to what the page shows of general ability. Pure: no files, no clock, no torch.

Base and tuned answered the same questions, so a change is computed over pairs: the standard errors of two single
scores overstate the uncertainty of their difference.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import fmean, variance

from harness.records import TaskResult, TaskSample
from harness.statistics import mcnemar_exact, normal_quantile, paired_difference
from harness.summary import AbilityChange, AbilityScore, Interval

Question = tuple[int, str]
"""(number, hash of its contents): the same question of two jobs."""
Measure = tuple[str, str, str]
"""(task, filter, metric)."""


def ability_scores(results: Iterable[TaskResult], models: Sequence[str]) -> tuple[AbilityScore, ...]:
    """Every metric of every task, tasks in the order of the records and models in the given one."""
    latest = {((result.task, result.filter, result.metric), result.model): result for result in results}
    measures = dict.fromkeys(measure for measure, _ in latest)
    ordered = (latest.get((measure, model)) for measure in measures for model in models)
    return tuple(
        AbilityScore(
            model=result.model,
            task=result.task,
            metric=result.metric,
            filter=result.filter,
            value=result.value,
            stderr=result.stderr,
            n=result.n,
            higher_is_better=result.higher_is_better,
            group=result.group,
        )
        for result in ordered
        if result is not None
    )


def ability_changes(
    samples: Iterable[TaskSample], baselines: Mapping[str, str], confidence: float
) -> tuple[AbilityChange, ...]:
    """Each model against its baseline, for every metric that has a value per question and only where both have one."""
    scores: dict[str, dict[Measure, dict[Question, float]]] = {}
    for sample in samples:
        for metric, score in sample.scores.items():
            by_measure = scores.setdefault(sample.model, {})
            question = (sample.doc_id, sample.doc_hash)
            by_measure.setdefault((sample.task, sample.filter, metric), {})[question] = score
    return tuple(
        change
        for model, baseline in baselines.items()
        for change in _changes(baseline, model, scores.get(baseline, {}), scores.get(model, {}), confidence)
    )


def _changes(
    baseline: str,
    model: str,
    before: Mapping[Measure, Mapping[Question, float]],
    after: Mapping[Measure, Mapping[Question, float]],
    confidence: float,
) -> Iterator[AbilityChange]:
    for measure, later in after.items():
        earlier = before.get(measure, {})
        pairs = [(earlier[question], score) for question, score in later.items() if question in earlier]
        if not pairs:
            continue
        task, filter_name, metric = measure
        counts = Counter(pairs)
        right_or_wrong = set(counts) <= {(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)}
        gained, lost = counts[0.0, 1.0], counts[1.0, 0.0]
        difference, interval = (
            paired_difference(counts[1.0, 1.0], gained, lost, counts[0.0, 0.0], confidence)
            if right_or_wrong
            else paired_means(pairs, confidence)
        )
        yield AbilityChange(
            baseline=baseline,
            model=model,
            task=task,
            metric=metric,
            filter=filter_name,
            n=len(pairs),
            gained=gained if right_or_wrong else None,
            lost=lost if right_or_wrong else None,
            difference=difference,
            interval=None if interval is None else Interval(low=interval[0], high=interval[1]),
            p_value=mcnemar_exact(gained, lost) if right_or_wrong else None,
        )


def paired_means(pairs: Sequence[tuple[float, float]], confidence: float) -> tuple[float, tuple[float, float] | None]:
    """Mean of second minus first with its large-sample normal interval; no interval for a single pair."""
    differences = [second - first for first, second in pairs]
    mean = fmean(differences)
    if len(differences) < 2:
        return mean, None
    half = normal_quantile(confidence) * math.sqrt(variance(differences) / len(differences))
    return mean, (mean - half, mean + half)
