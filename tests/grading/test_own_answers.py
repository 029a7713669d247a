"""Answers written and labelled for this test before any rule saw them; docs/grading.md says how they were used."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from harness.grading.evaluation import evaluate_file

FILES = {language: Path(__file__).with_name(f"own_{language}.jsonl") for language in ("ko", "en")}


@pytest.mark.parametrize("language", FILES)
def test_two_halves_without_a_row_in_both(language: str) -> None:
    rows = [json.loads(line) for line in FILES[language].read_text(encoding="utf-8").splitlines()]
    halves = Counter(row["half"] for row in rows)
    assert set(halves) == {"developed", "measured"}
    assert min(halves.values()) >= 75
    assert len({(row["prompt"], row["response"]) for row in rows}) == len(rows)


@pytest.mark.parametrize(("language", "kappa", "classes"), [("ko", 0.84, 0.58), ("en", 0.74, 0.69)])
def test_the_grader_is_no_worse_than_documented(language: str, kappa: float, classes: float) -> None:
    result = evaluate_file(FILES[language])
    assert result.kappa >= kappa
    assert result.kappa_all_classes >= classes
