"""Overlap between training rows and suite prompts. Pure: no files, no clock, no model.

Three kinds, the strongest first; a prompt and a row are reported once, by the strongest that holds:
  exact           the same letters and digits in the same order, whatever the spacing, punctuation and case
  near_duplicate  sets of character n-grams with a Jaccard similarity at or above the suite's threshold
  ngram           a run of characters in common, at least `ngram` long and the threshold's share of the prompt
docs/contamination.md says where the lengths and thresholds come from, and what they find and miss.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Protocol, get_args

from harness.near_duplicates import NearDuplicates, normalise
from harness.records import OverlapKind, OverlapPair, Prompt, RowField
from harness.suite import Contamination

SHORTEST = 8
"""Letters and digits below which a prompt is only compared exactly: shorter ones are like too many others."""
PIECE, STRIDE = 5, 4
"""Pieces of a text that are looked up first: every run of SHORTEST characters holds one that starts at a multiple of
STRIDE, so most of a text is read in a quarter of the steps."""
GRAM_SIZES = {True: 2, False: 5}
"""Characters per n-gram of the near-duplicate comparison: of Hangul, kana and Chinese characters, and of others."""
PAIRS_PER_PROMPT = 5
"""Rows shown for one prompt and training step; all are counted."""
LONGEST_EXCERPT = 240
STRENGTH: dict[OverlapKind, int] = {kind: rank for rank, kind in enumerate(get_args(OverlapKind))}


class TrainingRow(Protocol):
    """What a training row must have."""

    @property
    def instruction(self) -> str:
        """The question or task."""

    @property
    def input(self) -> str:
        """Empty where there is none."""

    @property
    def output(self) -> str:
        """The answer that is learned."""


@dataclass(frozen=True)
class Match:
    """How a text matches a prompt. `start` and `length`: the longest run in common, in the normalised text, or all."""

    kind: OverlapKind
    score: float
    start: int
    length: int

    @property
    def order(self) -> tuple[int, float]:
        """Sorts the strongest match first."""
        return (STRENGTH[self.kind], -self.score)


@dataclass
class Overlaps:
    """The pairs to show, and for every prompt with a match the number of rows that match it."""

    pairs: list[OverlapPair] = field(default_factory=list)
    rows_by_prompt: Counter[str] = field(default_factory=Counter)


def find_overlaps(
    training: str, rows: Iterable[TrainingRow], prompts: Sequence[Prompt], settings: Contamination
) -> Overlaps:
    """Compare every row with every prompt. `training` names the step; rows are numbered from 1.

    For each prompt the strongest `PAIRS_PER_PROMPT` rows are given as pairs, in the order of the prompts.
    """
    index = PromptIndex([prompt.text for prompt in prompts], settings)
    known: dict[str, dict[int, Match]] = {}
    found: dict[int, list[tuple[int, RowField, str, Match]]] = defaultdict(list)
    for number, row in enumerate(rows, start=1):
        best: dict[int, tuple[RowField, str, Match]] = {}
        for name, text in _fields(row):
            matches = known.get(text)
            if matches is None:
                matches = known[text] = index.matches(text)
            for position, match in matches.items():
                if position not in best or match.order < best[position][2].order:
                    best[position] = (name, text, match)
        for position, (name, text, match) in best.items():
            found[position].append((number, name, text, match))
    overlaps = Overlaps()
    for position in sorted(found):
        prompt, places = prompts[position], found[position]
        overlaps.rows_by_prompt[prompt.id] = len(places)
        for number, name, text, match in sorted(places, key=lambda place: place[3].order)[:PAIRS_PER_PROMPT]:
            overlaps.pairs.append(
                OverlapPair(
                    prompt_id=prompt.id,
                    prompt=prompt.text,
                    training=training,
                    row=number,
                    field=name,
                    text=excerpt(text, match.start, match.length),
                    kind=match.kind,
                    score=round(match.score, 4),
                )
            )
    return overlaps


def _fields(row: TrainingRow) -> list[tuple[RowField, str]]:
    fields: list[tuple[RowField, str]] = [("instruction", row.instruction), ("output", row.output)]
    if row.input:
        fields += [("input", row.input), ("instruction and input", f"{row.instruction}\n{row.input}")]
    return fields


class PromptIndex:
    """The prompts, laid out so that a text is compared with all of them at the cost of reading it once."""

    def __init__(self, texts: Sequence[str], settings: Contamination) -> None:
        self._clean = [normalise(text) for text in texts]
        self._same: dict[str, list[int]] = defaultdict(list)
        self._grams: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._lengths_by_anchor: dict[str, set[int]] = defaultdict(set)
        self._pieces: set[str] = set()
        groups: dict[bool, list[int]] = {True: [], False: []}
        for position, clean in enumerate(self._clean):
            self._same[clean].append(position)
            if len(clean) < SHORTEST:
                continue
            dense = is_dense(clean)
            groups[dense].append(position)
            # The run must also make up a fair share of a long prompt; a short prompt must be there as a whole.
            least = settings.ngram if dense else settings.ngram_other_scripts
            length = min(len(clean), max(least, ceil(settings.threshold * len(clean))))
            for offset in range(len(clean) - length + 1):
                gram = clean[offset : offset + length]
                self._grams[gram].append((position, offset))
                self._lengths_by_anchor[gram[:SHORTEST]].add(length)
                self._pieces.update(gram[place : place + PIECE] for place in range(STRIDE))
        self._near = [
            (positions, NearDuplicates([texts[p] for p in positions], settings.threshold, GRAM_SIZES[dense]))
            for dense, positions in groups.items()
            if positions
        ]

    def matches(self, text: str) -> dict[int, Match]:
        """Position of each prompt that the text matches -> the strongest match."""
        clean = normalise(text)
        if not clean:
            return {}
        found = {position: Match("exact", 1.0, 0, len(clean)) for position in self._same.get(clean, ())}
        runs = self._longest_runs(clean)
        for positions, near in self._near:
            for index, score in near.matches(clean).items():
                place = runs.get(positions[index], (0, len(clean)))
                found.setdefault(positions[index], Match("near_duplicate", score, *place))
        for position, (start, length) in runs.items():
            found.setdefault(position, Match("ngram", length / len(self._clean[position]), start, length))
        return found

    def _longest_runs(self, clean: str) -> dict[int, tuple[int, int]]:
        """Position of each prompt that shares a long enough run with the text -> (start in the text, length)."""
        runs: dict[tuple[int, int], tuple[int, int]] = {}  # (prompt, diagonal) -> (start, end) of its latest run
        longest: dict[int, tuple[int, int]] = {}
        for start in self._promising(clean):
            for length in self._lengths_by_anchor.get(clean[start : start + SHORTEST], ()):
                for position, offset in self._grams.get(clean[start : start + length], ()):
                    run_start, run_end = runs.get((position, start - offset), (start, start))
                    if run_end < start + length - 1:  # the last run on this diagonal ended before
                        run_start = start
                    runs[position, start - offset] = (run_start, start + length)
                    if start + length - run_start > longest.get(position, (0, 0))[1]:
                        longest[position] = (run_start, start + length - run_start)
        return longest

    def _promising(self, clean: str) -> list[int]:
        """Places of the text, in order, where a run may start; all others hold none."""
        pieces = self._pieces
        hits = [place for place in range(0, len(clean) - PIECE + 1, STRIDE) if clean[place : place + PIECE] in pieces]
        return [start for hit in hits for start in range(max(0, hit - STRIDE + 1), hit + 1)]


def is_dense(clean: str) -> bool:
    """Whether at least half of the characters are wide ones (UAX 11), of which a word takes few: Hangul, kana, Han."""
    return 2 * sum(unicodedata.east_asian_width(character) in "WF" for character in clean) >= len(clean)


def excerpt(text: str, start: int, length: int) -> str:
    """The text, or if it is long its part around the normalised characters start .. start + length."""
    if len(text) <= LONGEST_EXCERPT:
        return text
    shown = unicodedata.normalize("NFKC", text)
    places = [place for place, character in enumerate(shown) for part in character.lower() if normalise(part)]
    first, last = places[start], places[start + length - 1] + 1
    last = min(last, first + LONGEST_EXCERPT)
    margin = (LONGEST_EXCERPT - (last - first)) // 2
    first, last = max(0, first - margin), min(len(shown), last + margin)
    return ("… " if first else "") + shown[first:last] + (" …" if last < len(shown) else "")
