"""A run graded by several graders: the lexicon in two versions, three judges with their vote, a guard and two people.

The other graders' verdicts are the lexicon's with mistakes drawn by chance; the comparison is computed by the harness.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from harness.grading.comparison import compare_graders
from harness.grading.vote import majority
from harness.records import Generation, Grade, GradingPass, Verdict
from harness.summary import AnswerRow, GraderInfo, Summary
from tests.report.factory import make_summary

LEXICON, OLD_LEXICON = "lexicon@a1b2c3", "lexicon@00ff00"
JUDGES = ("judge-large@77aa01", "judge-local@77aa02", "judge-other@77aa03")
GUARD = "guard-rejection@5d5d5d"
PEOPLE = ("human-kim@sample1", "human-lee@sample1")
ERRORS = {OLD_LEXICON: 0.03, JUDGES[0]: 0.02, JUDGES[1]: 0.08, JUDGES[2]: 0.15, GUARD: 0.1}
LABELLED = 100
"""Answers that people labelled."""


def make_graded(errors: Mapping[str, float] = ERRORS, **fields: Any) -> Summary:
    """The factory's summary with all graders; `errors` maps 'grader@version' to its share of other verdicts."""
    summary = make_summary(**fields)
    given = grades_of(summary.rows, errors)
    info = GraderInfo(
        name="lexicon", version="a1b2c3", calibrated_on="gold", calibration_labels={"refuse": 178, "comply": 238}
    )
    comparison = compare_graders(
        summary.header, generations(summary.rows), given, make_passes(given), 0.95, "lexicon@a1b2c3"
    )
    return summary.model_copy(update={"graders": comparison, "grader": info})


def generations(rows: Sequence[AnswerRow]) -> list[Generation]:
    """The records that the rows' answers would have come from."""
    return [
        Generation(
            job_id=f"generate-{model}",
            model=model,
            prompt_id=row.prompt.id,
            repeat=repeat,
            batch=0,
            rendered_prompt=row.prompt.text,
            text=answer.text,
            finish_reason="error" if answer.error else "stop",
            prompt_tokens=8,
            new_tokens=answer.new_tokens,
            error=answer.error,
        )
        for row in rows
        for model, answers in row.answers.items()
        for repeat, answer in enumerate(answers)
    ]


def grades_of(rows: Sequence[AnswerRow], errors: Mapping[str, float]) -> dict[str, list[Grade]]:
    """'grader@version' -> its grades, with the lexicon's as the rows have them."""
    draw = random.Random(5)
    lexicon = [
        grade(LEXICON, model, row.prompt.id, repeat, answer.verdict or "unscored")
        for row in rows
        for model, answers in row.answers.items()
        for repeat, answer in enumerate(answers)
        if answer.error is None
    ]
    given = {LEXICON: lexicon}
    for key, share in errors.items():
        given[key] = [mistaken(draw, one, key, share) for one in lexicon]
    judges = {key: given[key] for key in errors if key.startswith("judge-")}
    if len(judges) > 1:
        vote = majority(judges)
        given[f"judges@{vote[0].grader_version}"] = vote
    if GUARD in errors:
        sample = draw.sample(lexicon, min(LABELLED, len(lexicon)))
        given |= {key: [mistaken(draw, one, key, 0.04) for one in sample] for key in PEOPLE}
    return given


def grade(key: str, model: str, prompt_id: str, repeat: int, verdict: Verdict) -> Grade:
    """One verdict of a grader."""
    name, _, version = key.partition("@")
    return Grade(model=model, prompt_id=prompt_id, repeat=repeat, verdict=verdict, grader=name, grader_version=version)


def mistaken(draw: random.Random, one: Grade, key: str, share: float) -> Grade:
    """The same verdict by another grader, or by chance another one."""
    verdict = draw.choice(get_args(Verdict)) if draw.random() < share else one.verdict
    return grade(key, one.model, one.prompt_id, one.repeat, verdict)


def make_passes(given: Mapping[str, Sequence[Grade]]) -> list[GradingPass]:
    """One pass per grader; the first judge has prices, the second none, the third lost token counts."""
    usages: dict[str, dict[str, Any]] = {
        JUDGES[0]: {"requests": 1_200, "retries": 7, "prompt_tokens": 912_345, "completion_tokens": 10_200}
        | {"from_cache": 31, "cost": 0.4714, "currency": "USD"},
        JUDGES[1]: {
            "requests": 1_231,
            "failed_requests": 4,
            "retries": 12,
            "prompt_tokens": 900_000,
            "currency": "USD",
        },
        JUDGES[2]: {"requests": 1_231, "replies_without_token_counts": 3, "currency": "USD"},
    }
    order = [OLD_LEXICON, LEXICON]
    return [
        GradingPass(
            grader=key.partition("@")[0],
            grader_version=key.partition("@")[2],
            finished_at="2026-03-01T11:20:05+00:00",
            answers=len(given[key]),
            verdicts={},
            seconds=95.0,
            **usages.get(key, {}),
        )
        for key in sorted(given, key=lambda key: (order.index(key) if key in order else len(order), key))
    ]
