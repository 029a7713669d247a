"""A classifier as a grader: a sequence classifier, or a causal guard model, from a local folder or a hub.

The model runs in a process of its own, so that this one never imports torch and its memory comes back at the end.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from harness.content_hash import content_hash
from harness.errors import JobFailed
from harness.grading.grader import AnswerToGrade, Graded, Outcome, Progress
from harness.grading.guard_model import GuardOrder, Label, classify
from harness.grading.judge_protocol import defuse
from harness.grading.lexicon_text import answer_start
from harness.suite import Guard

CODE_VERSION = 2
"""Raised by hand when this module or `guard_model` can give another label for the same answer."""
_NO_EFFECT_ON_LABELS = {"path", "revision", "batch_size", "device"}


class GuardClassifier:
    """Grades with the label that a model gives; `place` is its absolute folder or its hub name."""

    def __init__(self, name: str, settings: Guard, place: str) -> None:
        """Hash the model's contents for the version; NotAvailable if there is no such model."""
        self.name = f"guard-{name}"
        self._settings = settings
        self._place = place
        effective = settings.model_dump(mode="json", exclude=_NO_EFFECT_ON_LABELS)
        identity = [CODE_VERSION, content_hash(place, settings.revision), effective]
        self.version = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:12]

    def grade_all(self, answers: Sequence[AnswerToGrade], progress: Progress) -> Graded:
        """Label all answers in one child process; JobFailed if it dies, NotAvailable if the model does not fit."""
        starts = [answer_start(item.answer) for item in answers]
        pairs = [
            (defuse(item.prompt), defuse(item.answer[start:]))
            for item, start in zip(answers, starts, strict=True)
            if start is not None and item.answer[start:].strip()
        ]
        labels = iter(self._classify(pairs))
        outcomes = [
            Outcome("empty") if start is None or not item.answer[start:].strip() else self._outcome(next(labels))
            for item, start in zip(answers, starts, strict=True)
        ]
        progress(len(answers), len(answers))
        return Graded(outcomes)

    def _classify(self, pairs: list[tuple[str, str]]) -> list[Label]:
        if not pairs:
            return []
        order = GuardOrder(self._settings, self._place)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch", "transformers.models.auto.modeling_auto"])  # once for all guards
        with ProcessPoolExecutor(1, mp_context=context) as process:
            try:
                return process.submit(classify, order, pairs).result()
            except BrokenProcessPool as error:
                raise JobFailed(
                    f"{self.name}: the process of {self._place} died, perhaps for want of memory.",
                    hint="A smaller batch_size or max_seq_length of the guard needs less.",
                ) from error

    def _outcome(self, label: Label) -> Outcome:
        cut = f", read {label.tokens_read} of {label.tokens} tokens" if label.tokens_read < label.tokens else ""
        return Outcome(
            self._settings.labels.get(label.name, "unscored"), reply=f"{label.name} ({label.share:.4f}{cut})"
        )
