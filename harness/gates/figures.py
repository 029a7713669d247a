"""The figure that a gate judges, found in a run's summary, alone or against another model or run.

Whatever keeps a figure from being had is a `NoData` with its reason; nothing stands in for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.gates.vocabulary import SHARES, groups_of
from harness.metrics import majority
from harness.records import Prompt, Said, TaskSample
from harness.statistics import Bounds, paired_difference, wilson
from harness.suite import Gate
from harness.summary import Answer, Cell, Interval, Rate, Summary

Kind = Literal["share", "difference", "score", "score_difference", "ratio", "quantity"]
Counted = Literal["prompts", "answers", "questions", "values"]


@dataclass(frozen=True)
class Run:
    """A run to be judged, or to be compared with. `samples` reads its lm-eval questions, where they are needed."""

    summary: Summary
    samples: Callable[[], Sequence[TaskSample]] = tuple


@dataclass(frozen=True)
class Side:
    """One model of one run."""

    run: Run
    model: str

    @property
    def summary(self) -> Summary:
        """The run's summary."""
        return self.run.summary


@dataclass(frozen=True)
class Figure:
    """What was found: a value, its interval where it has one, and what it rests on."""

    kind: Kind
    value: float
    interval: Bounds | None
    n: int
    counted: Counted
    unit: str = ""
    notes: tuple[Said, ...] = ()


class NoData(Exception):
    """There is no figure to judge."""

    def __init__(self, ko: str, en: str) -> None:
        super().__init__(en)
        self.reason = Said(ko=ko, en=en)


def bounds(interval: Interval | None) -> Bounds | None:
    """The interval of a summary as plain numbers."""
    return None if interval is None else Bounds(interval.low, interval.high)


def share(side: Side, gate: Gate) -> Figure:
    """A refusal rate, corrected or not, or a share of broken answers, of one model."""
    cells = [
        cell
        for cell in side.summary.cells
        if cell.model == side.model and cell.group in groups_of(gate) and cell.category == gate.category
    ]
    if gate.metric in SHARES:
        return _pooled(cells, gate.metric, side.summary.confidence)
    rate = cells[0].refusal if cells else None
    if rate is None or rate.value is None:
        raise NoData("판정된 답변이 없습니다.", "there are no graded answers.")
    prompts = sum(1 for _, given in _answers(side, gate).values() if given)
    notes = [_missing(prompts - rate.n, prompts)] if prompts > rate.n else []
    if not gate.metric.startswith("corrected_"):
        return Figure("share", rate.value, bounds(rate.interval), rate.n, "prompts", notes=tuple(notes))
    if rate.corrected is None:
        raise NoData(
            "판정기의 오차를 모르거나 그 오차가 답변과 맞지 않아 보정한 비율이 없습니다.",
            "there is no corrected rate: the grader's error is not known, or does not fit the answers.",
        )
    notes.append(_made_by(rate))
    return Figure("share", rate.corrected, bounds(rate.corrected_interval), rate.n, "prompts", notes=tuple(notes))


def _made_by(rate: Rate) -> Said:
    if rate.corrected_by == "labels":
        return Said(
            ko=f"사람의 판정 {rate.labels}개로 층별 추정한 비율입니다.",
            en=f"by people's labels of {rate.labels} answers, stratified.",
        )
    return Said(ko="판정기의 알려진 오류로 보정한 비율입니다.", en="by the grader's known error.")


def _missing(missing: int, prompts: int) -> Said:
    return Said(
        ko=f"질문 {prompts}개 가운데 {missing}개에는 판정된 답변이 없습니다.",
        en=f"{missing} of {prompts} prompts have no graded answer.",
    )


def _pooled(cells: Sequence[Cell], metric: str, confidence: float) -> Figure:
    """A share over all the cells' answers; of empty and incoherent ones over prompts, as the page has them."""
    counts = [_count(cell, metric) for cell in cells]
    count, n = sum(one for one, _ in counts), sum(of for _, of in counts)
    if not n:
        raise NoData("답변이 없습니다.", "there are no answers.")
    by_prompt = metric in ("empty", "incoherent")
    return Figure("share", count / n, wilson(count, n, confidence), n, "prompts" if by_prompt else "answers")


def _count(cell: Cell, metric: str) -> tuple[int, int]:
    given = cell.answers - cell.failed
    match metric:
        case "incoherent":
            return cell.incoherent.count, cell.incoherent.n
        case "empty":
            return cell.empty.count, cell.empty.n
        case "truncated":
            return cell.truncated, given
        case "unscored":
            return cell.verdicts.get("unscored", 0), given
    return cell.failed, cell.answers


def share_difference(before: Side, after: Side, gate: Gate) -> Figure:
    """`after` minus `before` over the prompts that both have a decided answer to: same id, same text."""
    first, second = _answers(before, gate), _answers(after, gate)
    counts = {(was, now): 0 for was in (False, True) for now in (False, True)}
    shared = 0
    for key, (prompt, later) in second.items():
        if key not in first or not _same_question(first[key][0], prompt):
            continue
        shared += 1
        was, now = _decided(first[key][1], gate.metric), _decided(later, gate.metric)
        if was is not None and now is not None:
            counts[was, now] += 1
    n = sum(counts.values())
    if not n:
        raise NoData("두 쪽이 함께 답한 질문이 없습니다.", "no prompt has a graded answer on both sides.")
    difference, interval = paired_difference(
        counts[True, True], counts[False, True], counts[True, False], counts[False, False], after.summary.confidence
    )
    notes = [] if n == len(second) == len(first) else [_pairs(n, len(first), len(second))]
    return Figure("difference", difference, interval, n, "prompts", notes=(*notes, *_other_sampling(before, after)))


def _answers(side: Side, gate: Gate) -> dict[str, tuple[Prompt, tuple[Answer, ...]]]:
    return {
        row.prompt.id: (row.prompt, row.answers.get(side.model, ()))
        for row in side.summary.rows
        if row.group in groups_of(gate) and gate.category in (None, row.prompt.category)
    }


def _same_question(first: Prompt, second: Prompt) -> bool:
    return (first.text, first.expected) == (second.text, second.expected)


def _decided(answers: Sequence[Answer], metric: str) -> bool | None:
    """Whether more than half of a prompt's answers are so; None where none can be counted."""
    if metric in ("refusal", "over_refusal"):
        return majority(answers, "refusal")
    if metric in ("incoherent", "empty"):
        return majority(answers, "incoherent" if metric == "incoherent" else "empty")
    given = [answer for answer in answers if answer.error is None]
    match metric:
        case "truncated":
            hits, of = [answer.finish_reason == "length" for answer in given], given
        case "unscored":
            hits, of = [answer.verdict == "unscored" for answer in given], given
        case _:
            hits, of = [answer.error is not None for answer in answers], list(answers)
    return 2 * sum(hits) > len(of) if of else None


def _pairs(n: int, first: int, second: int) -> Said:
    return Said(
        ko=f"기준의 질문 {first}개와 이 실행의 {second}개 가운데, 양쪽에 판정된 답변이 있는 {n}개로 셉니다.",
        en=f"counted over the {n} prompts with a graded answer on both sides, of {first} before and {second} now.",
    )


def _other_sampling(before: Side, after: Side) -> tuple[Said, ...]:
    """Settings of the sampling that are not the same in two runs: they can make a difference of their own."""
    old, new = (side.summary.header.suite.get("sampling") for side in (before, after))
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        return ()
    changed = [f"{key} {old.get(key)} → {new.get(key)}" for key in new if old.get(key) != new.get(key)]
    if not changed:
        return ()
    text = ", ".join(changed)
    return (Said(ko=f"답변을 만든 설정이 다릅니다: {text}.", en=f"answers were sampled differently: {text}."),)


def is_number(value: float) -> bool:
    """Whether a figure can be judged at all."""
    return math.isfinite(value)
