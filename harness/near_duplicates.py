"""Finding texts that are the same as, or nearly the same as, one of a set of reference texts. Exact, no sketches."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable
from math import ceil

_NOT_LETTER_OR_DIGIT = re.compile(r"[\W_]+")


def normalise(text: str) -> str:
    """NFKC (which includes NFC), lower case, letters and digits only: spacing and punctuation do not count."""
    return _NOT_LETTER_OR_DIGIT.sub("", unicodedata.normalize("NFKC", text).lower())


def character_grams(clean: str, size: int) -> frozenset[str]:
    """The set of character n-grams of a normalised text; a shorter text is its own only gram."""
    return frozenset(clean[start : start + size] for start in range(max(1, len(clean) - size + 1)))


def trigrams(text: str) -> frozenset[str]:
    """The set of character 3-grams of the text once normalised."""
    return character_grams(normalise(text), 3)


def jaccard(first: str, second: str) -> float:
    """Size of the intersection over size of the union of the two texts' 3-gram sets, 0 to 1."""
    a, b = trigrams(first), trigrams(second)
    return len(a & b) / len(a | b)


class NearDuplicates:
    """Answers "which references are within `threshold` Jaccard of this text?" without comparing to all of them.

    Prefix filtering (Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and Srikant 2007): two sets of n-grams with
    Jaccard >= t share a gram among the first `n - ceil(t * n) + 1` of each, in any fixed order. Only those are indexed
    and looked up, rarest first, so that common endings bring up few candidates. Nothing is missed.
    """

    def __init__(self, references: Iterable[str], threshold: float = 0.6, size: int = 3) -> None:
        self.threshold = threshold
        self.size = size
        self._references = list(references)
        self._grams = [character_grams(normalise(text), size) for text in self._references]
        self._frequency = Counter(gram for grams in self._grams for gram in grams)
        self._by_gram: dict[str, list[int]] = defaultdict(list)
        self._longest = max((len(grams) for grams in self._grams), default=0)
        for index, grams in enumerate(self._grams):
            for gram in self._prefix(grams):
                self._by_gram[gram].append(index)

    def find(self, text: str) -> str | None:
        """The first reference at or above the threshold, or None."""
        matches = self.matches(normalise(text))
        return self._references[min(matches)] if matches else None

    def matches(self, clean: str) -> dict[int, float]:
        """Position -> Jaccard of every reference at or above the threshold, for a text already normalised."""
        most = self._longest / self.threshold  # a text with more grams has too many of its own
        head = int(1.5 * most)
        if len(clean) > head and len(character_grams(clean[:head], self.size)) > most:
            return {}
        grams = character_grams(clean, self.size)
        found = {}
        for index in {index for gram in self._prefix(grams) for index in self._by_gram.get(gram, ())}:
            other = self._grams[index]
            shared = len(grams & other)
            union = len(grams) + len(other) - shared
            if shared >= self.threshold * union:
                found[index] = shared / union
        return found

    def _prefix(self, grams: frozenset[str]) -> list[str]:
        ordered = sorted(grams, key=lambda gram: (self._frequency.get(gram, 0), gram))
        return ordered[: len(ordered) - ceil(self.threshold * len(ordered)) + 1]
