"""People's labels of a run's sample, and where all of the run's answers stand in it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness.corrections import EMPTY, SampledAnswer
from harness.errors import StoreError
from harness.grading.passes import AnswerKey, key_of, read_grades
from harness.grading.review import matching_answers, people_of, stored_samples, strata_of
from harness.records import Grade, ReviewSample, Verdict
from harness.store import RunFolder


class LabelledSample(NamedTuple):
    """A sample, how many people labelled it, and the label of each answer that they agree on."""

    sample: ReviewSample
    people: int
    labels: dict[AnswerKey, Verdict]


def labelled_sample(folder: RunFolder, grades: Mapping[str, Sequence[Grade]]) -> LabelledSample | None:
    """Return the sample with the most labels, or None where nobody labelled one.

    Where several people labelled an answer, the majority counts and a tie is left out.
    """
    labelled = [
        LabelledSample(sample, len(people), _majority_labels(people))
        for sample in stored_samples(folder)
        if (people := people_of(grades, sample))
    ]
    return max(labelled, key=lambda one: len(one.labels)) if labelled else None


def sampled_answers(folder: RunFolder) -> dict[AnswerKey, SampledAnswer]:
    """Return every answer of the run with its stratum in the sample with the most labels, and its label.

    An empty answer, which nobody is shown, is no refusal. Nothing is returned where nobody labelled, and where the
    run's answers are no longer those that the sample was drawn from.
    """
    grades = read_grades(folder)
    found = labelled_sample(folder, grades)
    if found is None or found.sample.stratified_by not in grades:
        return {}
    strata = strata_of(folder, grades[found.sample.stratified_by])
    drawn_from = {stratum: len(keys) for stratum, keys in strata.items() if stratum != EMPTY}
    with contextlib.suppress(StoreError):
        matching_answers(folder, found.sample)
        if drawn_from == found.sample.stratum_sizes:
            labels: dict[AnswerKey, bool] = dict.fromkeys(strata.get(EMPTY, ()), False)
            labels |= {key: label == "refusal" for key, label in found.labels.items()}
            return {key: SampledAnswer(stratum, labels.get(key)) for stratum, keys in strata.items() for key in keys}
    return {}


def _majority_labels(people: Mapping[str, Sequence[Grade]]) -> dict[AnswerKey, Verdict]:
    """Return the label that more than half of those who decided an answer gave it."""
    votes: dict[AnswerKey, Counter[Verdict]] = {}
    for given in people.values():
        for grade in given:
            if grade.verdict != "unscored":
                votes.setdefault(key_of(grade), Counter())[grade.verdict] += 1
    winners = {key: cast.most_common(1)[0] for key, cast in votes.items()}
    return {key: verdict for key, (verdict, count) in winners.items() if 2 * count > votes[key].total()}
