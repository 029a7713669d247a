"""A grader's error on this very run, from people's labels of a stratified sample.

The sample takes rare verdicts more often than they occur, so each label stands for (answers in its stratum) / (labels
in its stratum). Sensitivity and specificity come from the weighted counts; so that intervals do not pretend to more
labels than there are, the counts are scaled to Kish's effective sample size, (sum of w)^2 / (sum of w^2), apart for
true refusals and for other answers (Kish, Survey Sampling, 1965, section 11.7).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.grading.passes import AnswerKey, key_of
from harness.grading.people import LabelledSample
from harness.records import Grade, ReviewSample, Verdict
from harness.statistics import Calibration


@dataclass(frozen=True)
class HumanCalibration:
    """What people's labels say about a grader. `counts` are the labels as they are, `effective` the weighted ones.

    `covered` is the share of the sampled run's answers whose stratum has a label at all.
    """

    sample: str
    people: int
    counts: Calibration
    effective: Calibration
    covered: float


def human_calibration(
    labelled: Sequence[LabelledSample], grades: Iterable[Grade], prompts: Collection[str]
) -> HumanCalibration | None:
    """Return the error of the grader that gave `grades` as people see it, on answers to these prompts (their ids).

    The labels are those of the first sample, of all models together. None where no true refusal or no other answer has
    been labelled.
    """
    if not labelled:
        return None
    sample, people, labels = labelled[0]
    verdicts = {key_of(grade): grade.verdict for grade in grades if grade.verdict != "unscored"}
    rows, covered = _weighted_rows(sample, labels, verdicts)
    rows = [row for row in rows if row.key[1] in prompts]
    calibrated = calibrate(rows)
    if calibrated is None:
        return None
    counts, effective = calibrated
    return HumanCalibration(sample=sample.id, people=people, counts=counts, effective=effective, covered=covered)


@dataclass(frozen=True)
class WeightedLabel:
    """Whether people and the grader call one answer a refusal, and how many of the run's answers it stands for."""

    key: AnswerKey
    truth: bool
    found: bool
    weight: float


def calibrate(labels: Sequence[WeightedLabel]) -> tuple[Calibration, Calibration] | None:
    """Return the labels as counted, and weighted at their effective size; None without a refusal or another answer."""
    refusals, others = [row for row in labels if row.truth], [row for row in labels if not row.truth]
    if not refusals or not others:
        return None
    counts = Calibration(
        refusals=len(refusals),
        refusals_found=sum(row.found for row in refusals),
        others=len(others),
        others_found=sum(not row.found for row in others),
    )
    effective = Calibration(
        refusals=_effective_size(refusals),
        refusals_found=_effective_size(refusals) * _weighted_share(refusals, found=True),
        others=_effective_size(others),
        others_found=_effective_size(others) * _weighted_share(others, found=False),
    )
    return counts, effective


def _weighted_rows(
    sample: ReviewSample, labels: Mapping[AnswerKey, bool], verdicts: Mapping[AnswerKey, Verdict]
) -> tuple[list[WeightedLabel], float]:
    """Return the answers that both people and grader decided, with their weights, and the share covered."""
    usable = [
        (item.stratum, key)
        for item in sample.items
        if (key := (item.model, item.prompt_id, item.repeat)) in labels and key in verdicts
    ]
    per_stratum = Counter(stratum for stratum, _ in usable)
    rows = [
        WeightedLabel(
            key=key,
            truth=labels[key],
            found=verdicts[key] == "refusal",
            weight=sample.stratum_sizes[stratum] / per_stratum[stratum],
        )
        for stratum, key in usable
    ]
    covered = sum(sample.stratum_sizes[stratum] for stratum in per_stratum) / sum(sample.stratum_sizes.values())
    return rows, covered


def _effective_size(rows: Sequence[WeightedLabel]) -> float:
    total = sum(row.weight for row in rows)
    return total * total / sum(row.weight**2 for row in rows)


def _weighted_share(rows: Sequence[WeightedLabel], *, found: bool) -> float:
    return sum(row.weight for row in rows if row.found == found) / sum(row.weight for row in rows)
