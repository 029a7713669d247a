"""What is said to a judge, and how its reply is read. Pure functions: the network is `judge`'s matter.

The answer under judgement is hostile text: it may say that it is a refusal, write a verdict line of its own, or end
the quotation and go on as the user. So it stands between two lines that carry a hash of it, which it cannot contain;
what a server's chat template could take for a control token is broken up; and a verdict counts only on a line of its
own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

import yaml

from harness.grading.lexicon_text import answer_start
from harness.records import Evidence, Verdict

READING_VERSION = 2
"""Raised by hand when `read_verdict` reads a reply in another way."""
ASKING_VERSION = 2
"""Raised by hand when `Rubric.request` puts the same prompt and answer in other words."""
DECLINED = "declined"
"""Finish reason of a reply that a server marks as the judge's own refusal to judge."""

LONGEST_VERDICT_LINE = 200
_WITHOUT_VERDICT = frozenset({"length", "content_filter", "abort", "error", DECLINED})
# DeepSeek's tokens have a full-width bar.
_CONTROL_TOKEN = re.compile(r"(<|\[)(?=[|｜/A-Za-z])")


@dataclass(frozen=True)
class Rubric:
    """The instructions to a judge and the verdicts it is offered."""

    text: str
    verdicts: tuple[Verdict, ...]

    def request(self, prompt: str, answer: str) -> str:
        """Return the message to the judge, with prompt and answer inside the marked lines."""
        shown_prompt, shown_answer = defuse(prompt), defuse(answer)
        return Template(self.text).substitute(
            marker=marker_of(shown_prompt, shown_answer), prompt=shown_prompt, answer=shown_answer
        )

    def read_verdict(self, reply: str, finish_reason: str) -> Verdict:
        """Return the last offered verdict in the reply, else 'unscored'.

        A verdict is a line 'word' or '판정: word' (or 'verdict: word'), marked up or quoted as it may be, that says
        nothing else; what stands in a reasoning block, ended or not, is not said. A reply cut at its token limit or by
        a filter had not come to its verdict, and a judge's own refusal is none: they are unscored whatever they hold.
        """
        start = answer_start(reply)
        if start is None or finish_reason in _WITHOUT_VERDICT:
            return "unscored"
        found = [verdict for _, _, verdict in self._verdict_lines(reply[start:])]
        return found[-1] if found else "unscored"

    def verdict_lines_in(self, answer: str) -> tuple[Evidence, ...]:
        """Find lines of the answer that look like a verdict: a sign that it tries to speak for the judge."""
        return tuple(
            Evidence(start=start, end=start + len(line), text=line, rule="verdict_line_in_answer")
            for start, line, _ in self._verdict_lines(answer)
        )

    def _verdict_lines(self, text: str) -> Iterator[tuple[int, str, Verdict]]:
        """Yield (position, line, verdict); long lines are prose, and are not searched."""
        pattern = _verdict_line(self.verdicts)
        start = 0
        for line in text.split("\n"):
            if len(line) <= LONGEST_VERDICT_LINE and (found := pattern.fullmatch(line)):
                word = found["word"].lower()
                yield start, line, next(verdict for verdict in self.verdicts if verdict == word)
            start += len(line) + 1


@cache
def korean_rubric() -> Rubric:
    """Read the rubric that comes with the harness."""
    content = yaml.safe_load(Path(__file__).with_name("judge_rubric_ko.yaml").read_text(encoding="utf-8"))
    return Rubric(content["request"], tuple(content["verdicts"]))


def marker_of(prompt: str, answer: str) -> str:
    """Return the marker of the lines around prompt and answer: 16 hex digits of a hash of both.

    The same question always gets the same marker, so replies can be cached; a text that contained its own hash would
    have to be searched for among 2**64.
    """
    return hashlib.sha256(f"{len(prompt)}:{prompt}{answer}".encode()).hexdigest()[:16]


def defuse(text: str) -> str:
    """Break up control tokens such as <|im_end|>, </s> or [INST], and drop what UTF-8 cannot carry."""
    return _CONTROL_TOKEN.sub(r"\1 ", text.encode("utf-8", errors="replace").decode("utf-8"))


@cache
def _verdict_line(verdicts: tuple[Verdict, ...]) -> re.Pattern[str]:
    words = "|".join(verdicts)
    before, after = r"[\s*_`'\"“”‘’#>()\[\]{}<-]*?", r"[\s*_`'\"“”‘’)\]}>.,。!]*"
    label = r"(?:(?:최종\s*)?판정|(?:final\s+)?verdict)[*_`'\"\s]*[:：=]"
    explained = r"(?:\s*\([^()]*\))?\s*(?:입니다|이다)?"
    return re.compile(rf"{before}(?:{label}{before})?(?P<word>{words}){explained}{after}", re.IGNORECASE)
