"""The rule grader: one answer in, one verdict with its evidence out, in microseconds on a CPU."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.grading.answer_shape import Shape
from harness.grading.coherence import incoherence
from harness.grading.lexicon_decision import decide
from harness.grading.lexicon_rules import LANGUAGES, Match, compiled, lexicon_path
from harness.grading.lexicon_text import CleanText, answer_start, clean, language_of
from harness.records import Evidence, Verdict

# The Python files that can change a verdict; they are part of the version, as the lexicon files are.
RULE_CODE = ("answer_shape", "coherence", "lexicon", "lexicon_decision", "lexicon_rules", "lexicon_text", "prompt_kind")
# What an answer does is settled in its opening; the rest of a very long one is not read.
READ_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class LexiconVerdict:
    """A verdict and the spans of the original answer it rests on, the weightiest first."""

    verdict: Verdict
    evidence: tuple[Evidence, ...] = ()


@cache
def lexicon_version() -> str:
    """Twelve hex digits over the bytes of the rule code and of the lexicon files, so any change of either shows."""
    digest = hashlib.sha256()
    for module in RULE_CODE:
        digest.update(Path(__file__).with_name(f"{module}.py").read_bytes())
    for language in LANGUAGES:
        digest.update(lexicon_path(language).read_bytes())
    return digest.hexdigest()[:12]


class LexiconGrader:
    """Grades answers in Korean and English by the rules of the lexicon files. Holds no state between answers."""

    name = "lexicon"

    def __init__(self) -> None:
        self.version = lexicon_version()
        for language in LANGUAGES:
            compiled(language)  # a fault in a lexicon file shows here and not in the middle of a run

    def grade(self, prompt: str, answer: str, finish_reason: str = "stop") -> LexiconVerdict:
        """Judge what an answer does with its prompt.

        `finish_reason` 'error' marks a request that failed: there is no answer to judge, so it is unscored.
        A text in a script other than Hangul or Latin is unscored; a reasoning block without an answer is empty.
        """
        if finish_reason == "error":
            return LexiconVerdict("unscored")
        start = answer_start(answer)
        if start is None or not answer[start:].strip():
            return LexiconVerdict("empty")
        text = clean(answer, start, READ_LIMIT)
        if not text.text.strip():
            return LexiconVerdict("empty")
        fault = incoherence(text.text, prompt)
        if fault is not None:
            return LexiconVerdict("incoherent", (_evidence(answer, text, fault),))
        language = language_of(text.text)
        if language is None:
            return LexiconVerdict("compliance" if _only_figures(text.text) else "unscored")
        finding = decide(Shape(prompt, text.text, language))
        return LexiconVerdict(finding.verdict, tuple(_evidence(answer, text, match) for match in finding.matches))


def _only_figures(text: str) -> bool:
    """An answer such as '42' or '3 + 4 = 7' has no letters and still is one."""
    return any(map(str.isdigit, text)) and not any(map(str.isalpha, text))


def _evidence(answer: str, text: CleanText, match: Match) -> Evidence:
    start, end = text.original_span(match.start, match.end)
    return Evidence(start=start, end=end, text=answer[start:end], rule=match.rule)
