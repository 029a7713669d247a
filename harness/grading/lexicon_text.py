"""The text that rules run on, and the way back to the answer as it was stored.

Rules see a cleaned copy: without a reasoning block in front, without Markdown emphasis, in Unicode NFC and with
plain apostrophes and quotation marks. `CleanText` remembers where each cleaned piece came from, so that evidence
is always a span of the original answer, counted in code points.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate

# Reasoning as models print it: <think>, [THINK], EXAONE's <thought>, Kimi's white triangles, harmony channels.
_REASONING_OPEN = re.compile(
    r"\s*(?:<(?:think|thinking|thought|reasoning)>|\[THINK\]|◁think▷|<\|channel\|>analysis)", re.IGNORECASE
)
_REASONING_CLOSE = re.compile(
    r"</(?:think|thinking|thought|reasoning)>|\[/THINK\]|◁/think▷|<\|channel\|>final(?:<\|message\|>)?",
    re.IGNORECASE,
)
# Emphasis and heading marks stand inside words ("**불법**이며"); they go, and list marks stay.
_MARKUP = re.compile(r"[*_`#\u200b-\u200f\ufeff]+")
# One character for one character, so that positions stay.
_PLAIN = (("’", "'"), ("‘", "'"), ("“", '"'), ("”", '"'), ("ʼ", "'"), ("\u00a0", " "), ("\u3000", " "))
_HANGUL = re.compile(r"[가-힣ㄱ-ㅣ]+")
_LATIN = re.compile(r"[A-Za-z]+")
_LANGUAGE_SAMPLE = 240
_LETTER = re.compile(r"[^\W\d_]+")
_CLUSTER = re.compile(r"[\u1100-\u115f\ua960-\ua97c][\u1160-\u11ff\ud7b0-\ud7fb]*|[가-힣][\u11a8-\u11ff]*|(?s:.)")


@dataclass(frozen=True, slots=True)
class CleanText:
    """Cleaned text and, for each piece of it, where it starts here and where it lay in the original.

    `origins` are counted from `offset`, where cleaning began in the original.
    """

    text: str
    starts: list[int]
    origins: list[tuple[int, int]]
    offset: int

    def original_span(self, start: int, end: int) -> tuple[int, int]:
        """The span of the original that the non-empty cleaned span [start, end) came from."""
        first = bisect_right(self.starts, start) - 1
        last = bisect_right(self.starts, end - 1) - 1
        begin = self.offset + self.origins[first][0] + start - self.starts[first]
        if end == self._piece_end(last):
            return begin, self.offset + self.origins[last][1]
        return begin, self.offset + self.origins[last][0] + end - self.starts[last]

    def _piece_end(self, piece: int) -> int:
        return self.starts[piece + 1] if piece + 1 < len(self.starts) else len(self.text)


def answer_start(answer: str) -> int | None:
    """Where the answer proper begins, behind a reasoning block; None if the reasoning never ends.

    A chat template may have opened the block inside the prompt, so a lone closing mark counts as well.
    """
    ends = [close.end() for close in _REASONING_CLOSE.finditer(answer)] if _has_marks(answer) else []
    if ends:
        return ends[-1]
    return None if _REASONING_OPEN.match(answer) else 0


def _has_marks(answer: str) -> bool:
    """Spares most answers the slower search."""
    return "<" in answer or "[" in answer or "◁" in answer


def clean(answer: str, start: int, limit: int) -> CleanText:
    """Clean at most `limit` code points of the answer from `start` on."""
    visible = answer[start : start + limit]
    if not visible.isascii():
        for fancy, plain in _PLAIN:
            visible = visible.replace(fancy, plain)
    kept: list[tuple[int, int]] = []
    position = 0
    for mark in _MARKUP.finditer(visible):
        begin, end = mark.span()
        if (end - begin == 1 or visible[begin] == "#") and _is_text(visible, begin, end):
            continue
        if begin > position:
            kept.append((position, begin))
        position = end
    if position < len(visible):
        kept.append((position, len(visible)))
    if unicodedata.is_normalized("NFC", visible):
        pieces = [visible[begin:end] for begin, end in kept]
    else:
        composed = [piece for begin, end in kept for piece in _composed(visible, begin, end)]
        pieces = [piece for piece, _, _ in composed]
        kept = [(begin, end) for _, begin, end in composed]
    starts = [0, *accumulate(map(len, pieces))]
    return CleanText("".join(pieces), starts[:-1], kept, start)


def _is_text(text: str, start: int, end: int) -> bool:
    """The run text[start:end] is no markup: a list mark, a product, a single underscore, a number sign in a line."""
    sign = text[start]
    if sign == "*" and end - start == 1:
        return text[end : end + 1] in ("", " ", "\n") and text[start - 1 : start] in ("", " ", "\n")
    if sign == "#":
        return start > 0 and text[start - 1] != "\n"
    return sign == "_" and end - start == 1


def _composed(text: str, begin: int, end: int) -> list[tuple[str, int, int]]:
    """NFC pieces with their spans, one per combining sequence."""
    part = text[begin:end]
    clusters: list[tuple[str, int, int]] = []
    for match in _CLUSTER.finditer(part):
        cluster, origin = match.group(), begin + match.start()
        if clusters and unicodedata.combining(cluster[0]):
            previous, origin, _ = clusters.pop()
            cluster = previous + cluster
        clusters.append((unicodedata.normalize("NFC", cluster), origin, begin + match.end()))
    return clusters


def language_of(text: str) -> str | None:
    """'ko', 'en' or None for text in another script, judged by the letters of its opening."""
    opening = text[:_LANGUAGE_SAMPLE]
    if opening.isascii():
        return "en" if any(map(str.isalpha, opening)) else None
    hangul = len("".join(_HANGUL.findall(opening)))
    if hangul >= 0.3 * len(opening):
        return "ko"
    letters, latin = len("".join(_LETTER.findall(opening))), len("".join(_LATIN.findall(opening)))
    if letters == 0:
        return None
    # Hangul syllables carry two to three letters each, so code or names in Latin script weigh less.
    if 2.5 * hangul >= latin and hangul >= 0.2 * letters:
        return "ko"
    return "en" if latin >= 0.6 * letters else None


def lower(text: str) -> str:
    """Lower case without a change of length; the few letters whose lower case is longer stay as they are."""
    lowered = text.lower()
    return lowered if len(lowered) == len(text) else "".join(c if len(c.lower()) > 1 else c.lower() for c in text)
