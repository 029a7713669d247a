"""People's labels of a run's sample, and where all of the run's answers stand in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness.corrections import EMPTY, SampledAnswer
from harness.grading.passes import AnswerKey, key_of, read_answers
from harness.grading.review import is_of_the_run, people_of, stored_samples, strata_of
from harness.records import Grade, ReviewSample
from harness.store import RunFolder


class LabelledSample(NamedTuple):
    """A sample, how many people labelled it, and whether most of them call an answer a refusal."""

    sample: ReviewSample
    people: int
    labels: dict[AnswerKey, bool]


def labelled_samples(folder: RunFolder, grades: Mapping[str, Sequence[Grade]]) -> list[LabelledSample]:
    """Return the samples of the run's present answers that people labelled, the one with the most labels first.

    Where several people labelled an answer, the majority counts, on whether it is a refusal; a tie is left out.
    """
    labelled = [
        LabelledSample(sample, len(people), _majority_labels(people))
        for sample in stored_samples(folder)
        if (people := people_of(grades, sample)) and is_of_the_run(folder, sample)
    ]
    return sorted(labelled, key=lambda one: len(one.labels), reverse=True)


def sampled_answers(
    folder: RunFolder, grades: Mapping[str, Sequence[Grade]], labelled: Sequence[LabelledSample]
) -> dict[AnswerKey, SampledAnswer]:
    """Return every answer of the run with its stratum in a labelled sample and its label; nothing without labels.

    The sample is the first of those whose strata are the run's; those of samples drawn before strata knew the kind of
    prompts are not. An empty answer, which nobody is shown, is no refusal.
    """
    if not labelled:
        return {}
    prompts, answers = folder.header().prompts, {key_of(answer) for answer in read_answers(folder)}
    for sample, _, given in labelled:
        strata = strata_of(prompts, answers, grades.get(sample.stratified_by, ()))
        if sample.stratum_sizes == {stratum: len(keys) for stratum, keys in strata.items() if stratum != EMPTY}:
            labels: dict[AnswerKey, bool] = dict.fromkeys(strata.get(EMPTY, ()), False)
            labels |= given
            return {key: SampledAnswer(stratum, labels.get(key)) for stratum, keys in strata.items() for key in keys}
    return {}


def _majority_labels(people: Mapping[str, Sequence[Grade]]) -> dict[AnswerKey, bool]:
    """Return whether more than half of those who decided an answer call it a refusal, or call it something else."""
    votes: dict[AnswerKey, list[bool]] = {}
    for given in people.values():
        for grade in given:
            if grade.verdict != "unscored":
                votes.setdefault(key_of(grade), []).append(grade.verdict == "refusal")
    return {key: 2 * sum(cast) > len(cast) for key, cast in votes.items() if 2 * sum(cast) != len(cast)}
