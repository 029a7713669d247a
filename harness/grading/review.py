"""A person as a grader: a blind sample of a run's answers, the labels given to it, and what they say about graders.

    review/<sample>.json                     which answers, in which order, drawn from how many
    grades/human-<name>@<sample>.jsonl       one line per decision, synced as it is made; the last one counts

The sample mixes all models and hides them. Its strata are a model's answers to one kind of prompts with one verdict of
the rule grader, so that each rate of the page can be had from its own labels; their sizes are kept for that.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import random
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from pydantic import ValidationError

from harness.corrections import EMPTY
from harness.errors import HarnessError, StoreError, reason_of
from harness.grading.passes import AnswerKey, key_of, lexicon, read_answers, read_grades
from harness.grading.record_log import RecordLog
from harness.prompts import group_of
from harness.records import Generation, Grade, Prompt, ReviewItem, ReviewSample, Verdict
from harness.store import RunFolder, exclusive_lock, write_atomically

CHOICES: tuple[Verdict, ...] = ("refusal", "deflection", "partial", "compliance", "incoherent")
"""What a person may say, in the order of the keys 1 to 5."""
SKIPPED, UNDONE = "skipped", "undone"
Label = Verdict | Literal["skipped"]
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


def draw_sample(folder: RunFolder, size: int, seed: int) -> ReviewSample:
    """Draw up to `size` answers from the strata of today's lexicon; StoreError if it has not graded the run."""
    grader = lexicon()
    stratified_by = f"{grader.name}@{grader.version}"
    grades = read_grades(folder).get(stratified_by)
    if grades is None:
        raise StoreError(f"{folder.path}: not graded yet by {stratified_by}.", f"python -m harness grade {folder.path}")
    answers = {key_of(answer): answer for answer in read_answers(folder)}
    found = strata_of(folder.header().prompts, answers, grades)
    strata = {stratum: keys for stratum, keys in found.items() if stratum != EMPTY}
    chance = random.Random(seed)
    shares = shares_of({stratum: len(keys) for stratum, keys in strata.items()}, size)
    drawn = [(stratum, key) for stratum, keys in strata.items() for key in chance.sample(keys, shares[stratum])]
    chance.shuffle(drawn)
    items = tuple(
        ReviewItem(
            model=key[0], prompt_id=key[1], repeat=key[2], stratum=stratum, answer_sha256=_hash(answers[key].text)
        )
        for stratum, key in drawn
    )
    sizes = {stratum: len(keys) for stratum, keys in strata.items()}
    run_id = folder.header().run_id
    identity = [run_id, seed, stratified_by, sizes, [item.model_dump() for item in items]]
    return ReviewSample(
        id=_hash(json.dumps(identity, sort_keys=True))[:12],
        run_id=run_id,
        seed=seed,
        stratified_by=stratified_by,
        stratum_sizes=sizes,
        items=items,
    )


def strata_of(
    prompts: Iterable[Prompt], answers: Collection[AnswerKey], grades: Sequence[Grade]
) -> dict[str, list[AnswerKey]]:
    """Return 'model/kind of prompts/verdict' -> the answers there, in a fixed order; the empty ones apart."""
    groups = {prompt.id: group_of(prompt) for prompt in prompts}
    strata: dict[str, list[AnswerKey]] = {}
    for grade in sorted(grades, key=key_of):
        if key_of(grade) in answers:
            stratum = f"{grade.model}/{groups[grade.prompt_id]}/{grade.verdict}"
            strata.setdefault(EMPTY if grade.verdict == "empty" else stratum, []).append(key_of(grade))
    return strata


def shares_of(sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Hand out `total` places: one to each stratum, the largest first, and the others as the roots of the sizes ask.

    So rare verdicts are seen, and common ones, which the rates hang on, are seen more often: power allocation with
    exponent 1/2, Bankier, Am. Stat. 42 (1988) 174-177, in whole places by Sainte-Lague's divisors.
    """
    shares = dict.fromkeys(sizes, 0)

    def claim(stratum: str) -> tuple[bool, float]:
        return shares[stratum] == 0, math.sqrt(sizes[stratum]) / (2 * shares[stratum] + 1)

    for _ in range(min(total, sum(sizes.values()))):
        shares[max((one for one in sizes if shares[one] < sizes[one]), key=claim)] += 1
    return shares


def stored_samples(folder: RunFolder) -> list[ReviewSample]:
    """Read the samples drawn from this run so far; StoreError names one that is damaged."""
    samples = []
    for path in sorted((folder.path / "review").glob("*.json")):
        try:
            samples.append(ReviewSample.model_validate_json(path.read_bytes()))
        except (OSError, ValidationError) as error:
            raise StoreError(f"{path}: the sample cannot be read: {reason_of(error)}") from error
    return samples


class Review:
    """One person's work on one sample. Made by `open_review`."""

    def __init__(self, folder: RunFolder, sample: ReviewSample, name: str, log: RecordLog[Grade]) -> None:
        self.sample = sample
        self.name = name
        self._log = log
        self._prompts = {prompt.id: prompt.text for prompt in folder.header().prompts}
        self._answers = _matching_answers(folder, sample)
        places = {(item.model, item.prompt_id, item.repeat): place for place, item in enumerate(sample.items)}
        self.labels: dict[int, Label] = {}
        """Place in the sample -> label, in the order in which the labels were given."""
        for grade in log.records:
            self._remember(places[key_of(grade)], grade)

    def shown(self) -> list[dict[str, str | bool | None]]:
        """Return what the person may see: prompt, answer, whether it was cut, and the label so far. No model."""
        return [
            {
                "prompt": self._prompts[item.prompt_id],
                "answer": answer.text,
                "cut": answer.finish_reason == "length",
                "label": self.labels.get(place),
            }
            for place, (item, answer) in enumerate(zip(self.sample.items, self._answers, strict=True))
        ]

    def give(self, place: int, label: Label | None) -> None:
        """Save a label, 'skipped', or None to take it back; it is on the disk when this returns."""
        item = self.sample.items[place]
        aside = {"skipped": SKIPPED, None: UNDONE}.get(label)
        grade = Grade(
            model=item.model,
            prompt_id=item.prompt_id,
            repeat=item.repeat,
            verdict="unscored" if label is None or label == "skipped" else label,
            grader=f"human-{self.name}",
            grader_version=self.sample.id,
            reply=aside,
        )
        self._log.append(grade)
        self._remember(place, grade)

    def progress(self) -> str:
        """Say how many answers of the sample have a label; one that was skipped has none."""
        skipped = list(self.labels.values()).count("skipped")
        done = f"{len(self.labels) - skipped} of {len(self.sample.items)} answers have a label"
        return f"{done}, {skipped} skipped." if skipped else f"{done}."

    def _remember(self, place: int, grade: Grade) -> None:
        self.labels.pop(place, None)
        if grade.reply != UNDONE:
            self.labels[place] = "skipped" if grade.reply == SKIPPED else grade.verdict


@contextlib.contextmanager
def open_review(folder: RunFolder, name: str, size: int = 100, seed: int = 3407) -> Iterator[Review]:
    """Open the named person's review, going on where it stopped. One process at a time per person and sample.

    A stored sample of the same seed and size that still fits the run is used again, whatever the graders' versions
    are by now: so people can label the same answers, and nobody's work is lost to a new lexicon.
    """
    if not _NAME.fullmatch(name):
        raise HarnessError(
            f"The name '{name}' cannot be used: lower-case letters a-z, digits, '-' and '_', at most 40."
        )
    sample = _stored_or_drawn(folder, size, seed)
    if not sample.items:
        raise HarnessError(f"{folder.path}: there is no answer to review.")
    labels = folder.path / "grades" / f"human-{name}@{sample.id}.jsonl"
    lock = folder.path / "review" / f".{labels.stem}.lock"
    with exclusive_lock(lock, f"{labels}: {name} has this review open already"), RecordLog(labels, Grade) as log:
        yield Review(folder, sample, name, log)


def _stored_or_drawn(folder: RunFolder, size: int, seed: int) -> ReviewSample:
    for sample in stored_samples(folder):
        drawn_from = sum(sample.stratum_sizes.values())
        if sample.seed == seed and len(sample.items) == min(size, drawn_from) and is_of_the_run(folder, sample):
            return sample
    sample = draw_sample(folder, size, seed)
    write_atomically(folder.path / "review" / f"{sample.id}.json", sample.model_dump_json(indent=1) + "\n")
    return sample


def is_of_the_run(folder: RunFolder, sample: ReviewSample) -> bool:
    """Say whether the run still has the answers that the sample was drawn from."""
    try:
        _matching_answers(folder, sample)
    except StoreError:
        return False
    return True


def _matching_answers(folder: RunFolder, sample: ReviewSample) -> list[Generation]:
    """Return the sample's answers in its order; StoreError if the run has other answers by now."""
    answers = {key_of(answer): answer for answer in read_answers(folder)}
    found = [answers.get((item.model, item.prompt_id, item.repeat)) for item in sample.items]
    matching = [
        answer
        for answer, item in zip(found, sample.items, strict=True)
        if answer is not None and _hash(answer.text) == item.answer_sha256
    ]
    if len(matching) < len(found):
        raise StoreError(f"{folder.path}: sample {sample.id} is of other answers than the run now holds.")
    return matching


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def people_of(grades: Mapping[str, Sequence[Grade]], sample: ReviewSample) -> dict[str, Sequence[Grade]]:
    """Return 'human-name@sample' -> labels, for the people who worked on this sample."""
    return {
        key: given for key, given in grades.items() if key.startswith("human-") and key.partition("@")[2] == sample.id
    }
