"""Is an answer text at all? Finds loops and broken output, and leaves lists and refrains alone."""

from __future__ import annotations

import re
from collections import Counter

from harness.grading.lexicon_rules import Match

# A run of one character; rules, dot leaders, laughter (ㅋㅋ, ㅎㅎ, ㅠㅠ) and table borders are no fault.
_RUN = re.compile(r"([^\s\-=_.*~·•─━│|+#ㅋㅎㅠㅜㄷㅇ!?…/\\<>0])\1{14,}")
_PERIOD = re.compile(r"(\S.{1,150}?)\1{3,}", re.DOTALL)
_SENTENCE = re.compile(r"[^\n.!?。]{6,}")
_LONE_JAMO = re.compile(r"[ㄱ-ㅊㅌㅍㅏ-ㅛㅝ-ㅣ\u1100-\u11ff]")
_STRANGE = re.compile(
    r"[^\x00-\x7f가-힣一-鿿\u3000-\u30ff\u2000-\u2bff\uff00-\uffef\u00a0-\u00ff\U0001f000-\U0001faff]"
)
_OTHER_SCRIPTS = (
    re.compile(r"[\u0400-\u052f]"),
    re.compile(r"[\u0590-\u06ff]"),
    re.compile(r"[\u0900-\u0dff]"),
    re.compile(r"[\u0e00-\u0eff]"),
    re.compile(r"[\u10a0-\u10ff\u0530-\u058f]"),
)
_ASKED_TO_REPEAT = re.compile(r"반복|repeat|되풀이|\d+ ?번 (?:써|적|말)|(?:times|over and over)\b", re.IGNORECASE)

# Share of different pieces among all pieces of this length, taken at 30 to 60 places. Prose and lists lie above 0.9,
# three copies of a stretch near 0.33. Taken so sparsely it can overlook a stretch of more than 70 characters, which
# shows in equal sentences. Neither decides anything, they only start the exact checks.
_PIECE = 8
_PLACES = 60
_SUSPECT_SHARE = 0.7
_SUSPECT_SENTENCES = 3
_LOOP_SHARE = 0.4
# Of four copies of a stretch at least three are made of pieces that occur three times or more.
_REPEATED_SHARE = 0.25
_SHORT = 64


def incoherence(text: str, prompt: str) -> Match | None:
    """The span and name of what makes the text unreadable, or None. Text is cleaned and not empty."""
    if not text.isascii():
        fault = _broken(text)
        if fault is not None:
            return fault
    places = range(0, len(text) - _PIECE, 1 + len(text) // _PLACES)
    sentences = text.split(".")
    if (
        len(places) < 4
        or len({text[i : i + _PIECE] for i in places}) >= _SUSPECT_SHARE * len(places)
        and len(sentences) - len(set(sentences)) < _SUSPECT_SENTENCES
    ):
        return None
    if _ASKED_TO_REPEAT.search(prompt):
        return None
    return _loop(text)


def _broken(text: str) -> Match | None:
    """Replacement characters, loose jamo, or letters of several unrelated scripts in one answer."""
    lost = text.count("\ufffd")
    if lost >= 3 and lost >= 0.02 * len(text):
        return Match(text.index("\ufffd"), text.rindex("\ufffd") + 1, "replacement_characters")
    if not _STRANGE.search(text):
        return None
    jamo = _LONE_JAMO.findall(text)
    if len(jamo) >= 8 and len(jamo) >= 0.3 * len(text):
        return Match(0, len(text), "loose_jamo")
    others = [len(script.findall(text)) for script in _OTHER_SCRIPTS]
    if sum(count >= 2 for count in others) >= 2 and sum(others) >= 0.05 * len(text):
        return Match(0, len(text), "mixed_scripts")
    return None


def _spoken(stretch: str) -> bool:
    """It has letters, and not only those of written laughter or tears."""
    return any(letter.isalpha() for letter in stretch if letter not in "ㅋㅎㅠㅜ")


def _mostly_repeats(text: str) -> bool:
    """Enough of its pieces occur three times. Rules out a loop a hundred times faster than the search for one."""
    if len(text) < _SHORT:
        return True
    pieces = Counter(text[start : start + _PIECE] for start in range(len(text) - _PIECE + 1))
    return sum(count for count in pieces.values() if count >= 3) >= _REPEATED_SHARE * len(text)


def _loop(text: str) -> Match | None:
    """A run of one character, a stretch that repeats without change, or one sentence said over and over."""
    run = _RUN.search(text)
    if run is not None and run.end() - run.start() >= 0.1 * len(text):
        return Match(run.start(), run.end(), "character_loop")
    if not _mostly_repeats(text):
        return None
    for found in _PERIOD.finditer(text):
        if found.end() - found.start() >= _LOOP_SHARE * len(text) and _spoken(found.group(1)):
            return Match(found.start(), found.end(), "repeated_stretch")
    counts = Counter(sentence.strip() for sentence in _SENTENCE.findall(text))
    if not counts:
        return None
    sentence, count = max(counts.items(), key=lambda item: len(item[0]) * item[1])
    if count >= 4 and len(sentence) * count >= _LOOP_SHARE * len(text):
        return Match(text.index(sentence), text.rindex(sentence) + len(sentence), "repeated_sentence")
    return None
