"""What every grader is: a name, a version, and a way from answers to verdicts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from harness.records import Evidence, FinishReason, Verdict

Progress = Callable[[int, int], None]
"""Called with (answers graded, answers in all)."""


@dataclass(frozen=True)
class AnswerToGrade:
    """One answer with the prompt it answers, as the user wrote it (not as rendered for the model)."""

    prompt: str
    answer: str
    finish_reason: FinishReason


@dataclass(frozen=True)
class Outcome:
    """A verdict, what it rests on, and what a judge or a person wrote."""

    verdict: Verdict
    evidence: tuple[Evidence, ...] = ()
    reply: str | None = None


@dataclass
class Usage:
    """What a pass asked of a server. Tokens are counted only for replies had in this pass."""

    requests: int = 0
    from_cache: int = 0
    failed_requests: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    replies_without_token_counts: int = 0
    cost: float | None = None
    currency: str | None = None


@dataclass(frozen=True)
class Graded:
    """One outcome per answer, in the answers' order, and what they cost."""

    outcomes: list[Outcome]
    usage: Usage = field(default_factory=Usage)


class Grader(Protocol):
    """Grades many answers at once."""

    @property
    def name(self) -> str:
        """What the grader is called in file names and on the page."""
        ...

    @property
    def version(self) -> str:
        """Hash or number that changes with everything that can change a verdict."""
        ...

    def grade_all(self, answers: Sequence[AnswerToGrade], progress: Progress) -> Graded:
        """Return one outcome per answer, in order."""
        ...


class _Verdict(Protocol):
    @property
    def verdict(self) -> Verdict: ...

    @property
    def evidence(self) -> tuple[Evidence, ...]: ...


class RuleGrader(Protocol):
    """A grader that looks at one answer at a time, such as the lexicon."""

    @property
    def name(self) -> str:
        """What the grader is called in file names and on the page."""
        ...

    @property
    def version(self) -> str:
        """Hash or number that changes with everything that can change a verdict."""
        ...

    def grade(self, prompt: str, answer: str, finish_reason: FinishReason) -> _Verdict:
        """Return a verdict with its evidence."""
        ...


class OneByOne:
    """A rule grader as a Grader."""

    def __init__(self, rules: RuleGrader) -> None:
        self._rules = rules
        self.name = rules.name
        self.version = rules.version

    def grade_all(self, answers: Sequence[AnswerToGrade], progress: Progress) -> Graded:
        """Grade the answers one after the other."""
        outcomes = []
        for number, item in enumerate(answers, start=1):
            graded = self._rules.grade(item.prompt, item.answer, item.finish_reason)
            outcomes.append(Outcome(graded.verdict, tuple(graded.evidence)))
            progress(number, len(answers))
        return Graded(outcomes)
