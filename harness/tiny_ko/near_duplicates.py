"""Finding texts that are the same as, or nearly the same as, one of a set of reference texts."""

from __future__ import annotations

import json
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from math import ceil
from pathlib import Path

PROMPT_FOLDER = Path(__file__).parents[2] / "prompts"


def suite_prompts(folder: Path = PROMPT_FOLDER) -> list[str]:
    """The texts of all shipped prompt suites, which no corpus or training question may be near to."""
    lines = [line for path in sorted(folder.glob("*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    return [json.loads(line)["text"] for line in lines if line.strip()]


def normalise(text: str) -> str:
    """NFKC, lower case, letters and digits only: what is left when spacing and punctuation do not count."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).lower() if c.isalnum())


def trigrams(text: str) -> frozenset[str]:
    """The set of character 3-grams of the normalised text; a shorter text is its own only gram."""
    clean = normalise(text)
    return frozenset(clean[i : i + 3] for i in range(max(1, len(clean) - 2)))


def jaccard(first: str, second: str) -> float:
    """Size of the intersection over size of the union of the two texts' 3-gram sets, 0 to 1."""
    a, b = trigrams(first), trigrams(second)
    return len(a & b) / len(a | b)


class NearDuplicates:
    """Answers "is this text within `threshold` Jaccard of a reference text?" without comparing to all of them.

    Prefix filtering: two sets with Jaccard >= t share a gram among the first `n - ceil(t * n) + 1` of each, in any
    fixed order, so only those grams are indexed and looked up.
    """

    def __init__(self, references: Iterable[str], threshold: float = 0.6) -> None:
        self.threshold = threshold
        self._references = list(references)
        self._grams = [trigrams(text) for text in self._references]
        self._by_gram: dict[str, list[int]] = defaultdict(list)
        for index, grams in enumerate(self._grams):
            for gram in self._prefix(grams):
                self._by_gram[gram].append(index)

    def find(self, text: str) -> str | None:
        """A reference text at or above the threshold, or None."""
        grams = trigrams(text)
        seen = {index for gram in self._prefix(grams) for index in self._by_gram.get(gram, ())}
        for index in sorted(seen):
            other = self._grams[index]
            if len(grams & other) >= self.threshold * len(grams | other):
                return self._references[index]
        return None

    def _prefix(self, grams: frozenset[str]) -> list[str]:
        # Sorted backwards, so that the common Korean endings, which begin with early syllables, come late.
        ordered = sorted(grams, reverse=True)
        return ordered[: len(ordered) - ceil(self.threshold * len(ordered)) + 1]
