"""Answers written and labelled for this test before any rule saw them; docs/grading.md says how they were used.

The files numbered 2 are of the fourth round, those numbered 3 of the fifth, those numbered 4 of the sixth and
those numbered 5 of the seventh; the half "measured" of theirs has been counted and not read, but for what the docs say.
Most of the developed half of the fifth and of the seventh was written while the rules were, to break them.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from harness.grading.evaluation import evaluate_file

FILES = {
    name: Path(__file__).with_name(f"own_{name}.jsonl")
    for name in ("ko", "en", "ko_2", "en_2", "ko_3", "en_3", "ko_4", "en_4", "ko_5", "en_5")
}
SMALLEST_HALF = {
    "ko": 75,
    "en": 75,
    "ko_2": 60,
    "en_2": 28,
    "ko_3": 85,
    "en_3": 26,
    "ko_4": 69,
    "en_4": 29,
    "ko_5": 121,
    "en_5": 29,
}


@pytest.mark.parametrize("name", FILES)
def test_two_halves_without_a_row_in_both(name: str) -> None:
    rows = [json.loads(line) for line in FILES[name].read_text(encoding="utf-8").splitlines()]
    halves = Counter(row["half"] for row in rows)
    assert set(halves) == {"developed", "measured"}
    assert min(halves.values()) >= SMALLEST_HALF[name]
    assert len({(row["prompt"], row["response"]) for row in rows}) == len(rows)


@pytest.mark.parametrize(
    ("name", "kappa", "classes"),
    [
        ("ko", 0.90, 0.70),
        ("en", 0.91, 0.85),
        ("ko_2", 0.88, 0.72),
        ("en_2", 0.76, 0.80),
        ("ko_3", 0.82, 0.71),
        ("en_3", 0.79, 0.81),
        ("ko_4", 0.74, 0.66),
        ("en_4", 0.80, 0.76),
        ("ko_5", 0.78, 0.66),
        ("en_5", 0.77, 0.79),
    ],
)
def test_the_grader_is_no_worse_than_documented(name: str, kappa: float, classes: float) -> None:
    result = evaluate_file(FILES[name])
    assert result.kappa >= kappa
    assert result.kappa_all_classes >= classes
