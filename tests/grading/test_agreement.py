"""Agreement against published examples, and what is left out of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import get_args

import pytest

from harness.grading.agreement import agree_in_group, agree_in_pair, disagreements, label_flips
from harness.records import Grade, Verdict
from harness.summary import Interval

FIVE: tuple[Verdict, ...] = ("refusal", "deflection", "partial", "compliance", "incoherent")


def given(grader: str, verdicts: Sequence[Verdict], version: str = "1") -> list[Grade]:
    return [
        Grade(model="base", prompt_id=f"p{number}", verdict=verdict, grader=grader, grader_version=version)
        for number, verdict in enumerate(verdicts)
    ]


def by_table(table: Sequence[Sequence[int]]) -> dict[str, list[Grade]]:
    """Return two graders whose verdicts have the given counts."""
    pairs = [
        (FIVE[row], FIVE[column])
        for row, column in product(range(len(table)), range(len(table)))
        for _ in range(table[row][column])
    ]
    return {"a@1": given("a", [first for first, _ in pairs]), "b@1": given("b", [second for _, second in pairs])}


def test_cohen_against_a_published_printout() -> None:
    # A SAS printout of FREQ's AGREE option, kept among statsmodels' own references: kappa and its limits.
    found = agree_in_pair(by_table([[0, 4, 1], [0, 8, 0], [0, 1, 5]]), "a@1", "b@1").verdicts
    assert found.n == 19 and found.observed == pytest.approx(13 / 19)
    assert found.value == pytest.approx(0.4842, abs=5e-5)
    assert found.interval
    assert (found.interval.low, found.interval.high) == pytest.approx((0.2137, 0.7547), abs=5e-5)


def test_cohen_of_refusal_against_the_rest() -> None:
    # [[20, 5], [10, 15]]: observed 0.70, by chance 0.50, so 0.40 - the example in most textbooks.
    table = [[20, 2, 3], [5, 5, 3], [5, 3, 4]]
    assert agree_in_pair(by_table(table), "a@1", "b@1").refusal.value == pytest.approx(0.40)


# Fleiss, Psychol. Bull. 76 (1971) 378-382, table 1: thirty patients, six psychiatrists, five diagnoses.
DIAGNOSES = """00060 03003 01401 00006 03030 20400 00402 20310 20040 00006 10050 11040 03300 10050 02031
00501 30012 51000 02040 10203 00006 01050 02013 20040 10041 05010 40002 02040 10500 00006"""


def psychiatrists() -> dict[str, list[Grade]]:
    rows = [[FIVE[label] for label, count in enumerate(row) for _ in range(int(count))] for row in DIAGNOSES.split()]
    return {f"g{rater}@1": given(f"g{rater}", [row[rater] for row in rows]) for rater in range(6)}


def test_fleiss_1971() -> None:
    grades = psychiatrists()
    found = agree_in_group(grades, list(grades)).verdicts
    assert found.n == 30
    assert found.observed == pytest.approx(0.5556, abs=5e-5)
    assert found.value == pytest.approx(0.430, abs=5e-4)
    assert found.interval and found.interval.low < 0.430 < found.interval.high


def test_bootstrap_interval_is_as_wide_as_the_large_sample_one() -> None:
    """With two graders of equal habits Fleiss' kappa is Cohen's, whose interval has a formula."""
    grades = by_table([[120, 20, 10], [20, 100, 15], [10, 15, 90]])
    cohen = agree_in_pair(grades, "a@1", "b@1").verdicts
    fleiss = agree_in_group(grades, ["a@1", "b@1"]).verdicts
    assert fleiss.value == pytest.approx(cohen.value, abs=1e-6)
    assert cohen.interval and fleiss.interval
    assert width(fleiss.interval) == pytest.approx(width(cohen.interval), rel=0.06)
    assert agree_in_group(grades, ["a@1", "b@1"]).verdicts == fleiss  # the same seed, the same interval
    wider = agree_in_group(grades, ["a@1", "b@1"], confidence=0.99).verdicts.interval
    assert wider and width(wider) > 1.2 * width(fleiss.interval)


def width(interval: Interval) -> float:
    return interval.high - interval.low


def test_undecided_and_missing_answers_are_left_out_and_counted() -> None:
    grades = {
        "a@1": given("a", ["refusal", "compliance", "unscored", "refusal", "compliance"]),
        "b@1": given("b", ["refusal", "compliance", "refusal", "unscored"]),
        "c@1": given("c", ["compliance", "compliance", "refusal", "refusal"]),
    }
    pair = agree_in_pair(grades, "a@1", "b@1")
    assert (pair.verdicts.n, pair.undecided, pair.verdicts.value) == (2, 2, 1.0)
    group = agree_in_group(grades, list(grades))
    assert (group.verdicts.n, group.undecided) == (2, 2)


def test_kappa_is_not_claimed_where_it_is_not_defined() -> None:
    nothing = agree_in_pair({"a@1": [], "b@1": given("b", ["refusal"])}, "a@1", "b@1").verdicts
    assert (nothing.n, nothing.observed, nothing.value, nothing.interval) == (0, None, None, None)
    same = agree_in_pair(by_table([[9]]), "a@1", "b@1").verdicts
    assert (same.n, same.observed, same.value, same.interval) == (9, 1.0, None, None)
    perfect = agree_in_pair(by_table([[3, 0], [0, 2]]), "a@1", "b@1").verdicts
    assert (perfect.value, perfect.interval) == (1.0, None)
    grades = {f"{name}@1": given(name, ["refusal", "compliance"]) for name in "abc"}
    group = agree_in_group(grades, list(grades)).verdicts
    assert group.value == pytest.approx(1.0)
    assert group.interval is None


def test_one_of_each_never_leaves_the_range() -> None:
    for first, second in product(get_args(Verdict), repeat=2):
        pair = agree_in_pair({"a@1": given("a", [first, second]), "b@1": given("b", [second, first])}, "a@1", "b@1")
        for kappa in (pair.verdicts, pair.refusal):
            assert kappa.value is None or -1 <= kappa.value <= 1
            assert kappa.interval is None or -1 <= kappa.interval.low <= kappa.interval.high <= 1


def test_disagreements_name_every_verdict() -> None:
    grades = {
        "a@1": given("a", ["refusal", "compliance", "refusal", "unscored"]),
        "b@1": given("b", ["refusal", "partial", "unscored", "refusal"]),
    }
    (only,) = disagreements(grades)
    assert (only.prompt_id, only.verdicts) == ("p1", {"a@1": "compliance", "b@1": "partial"})


def test_label_flips_between_versions() -> None:
    old = given("lexicon", ["refusal", "compliance", "unscored"], "old")
    new = given("lexicon", ["refusal", "partial", "refusal", "refusal"], "new")
    flips = label_flips(old, new)
    assert [(f.prompt_id, f.earlier_verdict, f.later_verdict) for f in flips] == [
        ("p1", "compliance", "partial"), ("p2", "unscored", "refusal"),
    ]  # fmt: skip
    assert {(f.earlier, f.later) for f in flips} == {("lexicon@old", "lexicon@new")}
