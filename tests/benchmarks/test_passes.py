"""Grading and reporting, which users repeat without a GPU."""

from __future__ import annotations

import json
from pathlib import Path

from harness.grading.lexicon import LexiconGrader
from harness.report.page import render_report
from tests.benchmarks.conftest import Timed
from tests.report.factory import make_summary

ANSWERS = 1_000
PAIRS_PER_CATEGORY = 200


def test_grading_a_thousand_answers(timed: Timed) -> None:
    grader = LexiconGrader()
    rows = [json.loads(line) for line in Path("suites/data/smoke_tuned.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = [rows[number % len(rows)]["text"] for number in range(ANSWERS)]

    def grade() -> int:
        return sum(grader.grade("질문입니다.", text).verdict != "unscored" for text in texts)

    assert timed("test_reference_python", 5, grade) > 0


def test_report_of_ten_thousand_answers(timed: Timed) -> None:
    summary = make_summary(pairs_per_category=PAIRS_PER_CATEGORY)
    assert sum(len(answers) for row in summary.rows for answers in row.answers.values()) >= 10_000
    page = timed("test_reference_python", 2, lambda: render_report(summary))
    assert page.startswith("<!doctype html>")
