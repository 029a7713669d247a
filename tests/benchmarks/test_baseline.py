"""The comparison itself fails when it should."""

from __future__ import annotations

from tests.benchmarks.baseline import compare


def test_only_what_is_beyond_the_ratio_is_a_fault() -> None:
    assert compare({"a": 1.5, "b": 1.4}, {"a": 1.0, "b": 1.0}, 1.45) == ["a: 1.50 times its baseline (allowed 1.45)"]


def test_a_benchmark_that_went_missing_or_is_new_is_a_fault() -> None:
    assert compare({"new": 1.0}, {"old": 1.0}, 2.0) == [
        "new: not in the baseline; save it first",
        "old: in the baseline, but not measured",
    ]
