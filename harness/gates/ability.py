"""Ability figures of a gate: one metric of one lm-eval task or group, alone or over the same questions."""

from __future__ import annotations

import math
from collections.abc import Mapping

from harness.ability import ability_changes
from harness.gates.figures import Figure, NoData, Side, bounds
from harness.records import Said
from harness.statistics import Bounds, normal_quantile, wilson
from harness.suite import Gate
from harness.summary import AbilityScore

SETTINGS = ("prompt_form", "num_fewshot")
"""Settings of lm-eval without which two runs put different questions."""


def score(side: Side, gate: Gate) -> Figure:
    """The score and its interval."""
    found = _score(side, gate)
    return Figure("score", found.value, score_interval(found, side.summary.confidence), found.n, "questions")


def score_interval(score: AbilityScore, confidence: float) -> Bounds | None:
    """Wilson's interval for a share of right answers, else the normal one of lm-eval's standard error, if it has one.

    A mean of zeros and ones is known by its standard error, sqrt(p (1 - p) / (n - 1)). The normal interval has no width
    where all are right.
    """
    if score.stderr is None:
        return None
    if score.n > 1 and 0 <= score.value <= 1:
        right = round(score.value * score.n)
        of_share = math.sqrt(score.value * (1 - score.value) / (score.n - 1))
        whole = math.isclose(right, score.value * score.n, abs_tol=1e-6)
        if whole and math.isclose(score.stderr, of_share, rel_tol=1e-3, abs_tol=1e-9):
            return wilson(right, score.n, confidence)
    return _around(score.value, score.stderr, confidence)


def score_difference(before: Side, after: Side, gate: Gate) -> Figure:
    """`after` minus `before`, in pairs where lm-eval has a value for each question.

    For groups and metrics without one (F1), the difference of the two scores with the interval of unpaired ones,
    which is wider than it need be.
    """
    second, first = _score(after, gate), _score(before, gate)
    if before.run is not after.run:
        _refuse_other_settings(before, after)
    wanted = second.task, second.metric, second.filter
    if before.run is after.run:
        changes = after.summary.ability_changes
        pairs = [one for one in changes if (one.baseline, one.model) == (before.model, after.model)]
    else:
        samples = [
            sample.model_copy(update={"model": name})
            for name, side in (("before", before), ("after", after))
            for sample in side.run.samples()
            if (sample.model, sample.task) == (side.model, second.task)
        ]
        pairs = list(ability_changes(samples, {"after": "before"}, after.summary.confidence))
    for change in pairs:
        if (change.task, change.metric, change.filter) == wanted:
            return Figure("score_difference", change.difference, bounds(change.interval), change.n, "questions")
    if first.n != second.n:
        raise NoData(
            f"문항 수가 다릅니다: {first.n}개와 {second.n}개.",
            f"the scores are of different numbers of questions: {first.n} and {second.n}.",
        )
    errors = (first.stderr, second.stderr)
    interval = None
    if errors[0] is not None and errors[1] is not None:
        interval = _around(second.value - first.value, math.hypot(errors[0], errors[1]), after.summary.confidence)
    note = Said(
        ko="문항별 값이 없어 짝짓지 못했습니다. 구간이 실제보다 넓습니다.",
        en="not paired, since there are no values per question; the interval is wider than it need be.",
    )
    return Figure("score_difference", second.value - first.value, interval, second.n, "questions", notes=(note,))


def _around(value: float, stderr: float, confidence: float) -> Bounds:
    half = normal_quantile(confidence) * stderr
    return Bounds(value - half, value + half)


def _score(side: Side, gate: Gate) -> AbilityScore:
    scores = [one for one in side.summary.abilities if one.model == side.model]
    of_task = [one for one in scores if one.task == gate.task]
    if not of_task:
        tasks = ", ".join(dict.fromkeys(one.task for one in scores))
        raise NoData(
            f"{side.model} 모델에는 과제 {gate.task}의 결과가 없습니다. 있는 과제: {tasks or '없음'}",
            f"there is no result of task {gate.task} for {side.model}; there are: {tasks or 'none'}",
        )
    of_metric = [one for one in of_task if one.metric == gate.task_metric]
    if not of_metric:
        metrics = ", ".join(dict.fromkeys(one.metric for one in of_task))
        raise NoData(
            f"과제 {gate.task}에 없는 지표입니다: {gate.task_metric}. 있는 지표: {metrics}",
            f"task {gate.task} has no metric {gate.task_metric}; it has: {metrics}",
        )
    found = [one for one in of_metric if gate.task_filter in (None, one.filter)]
    if len(found) != 1:
        filters = ", ".join(one.filter for one in of_metric)
        raise NoData(
            f"task_filter로 하나를 고르십시오. 있는 필터: {filters}", f"name one filter with task_filter: {filters}"
        )
    return found[0]


def _refuse_other_settings(before: Side, after: Side) -> None:
    old, new = (side.summary.header.suite.get("lm_eval") for side in (before, after))
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return
    changed = [f"{key} {old.get(key)} → {new.get(key)}" for key in SETTINGS if old.get(key) != new.get(key)]
    if changed:
        text = ", ".join(changed)
        raise NoData(f"문제를 낸 방법이 다릅니다: {text}.", f"the questions were put differently: {text}.")
