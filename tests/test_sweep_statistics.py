"""Rates over seeds and their differences: worked examples, hand computation, limits, and coverage by simulation."""

from __future__ import annotations

import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp
from statsmodels.stats.multitest import multipletests

from harness.statistics import holm, mcnemar_exact, paired_difference, wilson
from harness.sweep_statistics import Table, difference_over_seeds, mean_over_seeds
from tests.sweep_coverage import coverage, false_alarms, simulated


def table(*rows: str) -> Table:
    """'1101' -> [1, 1, 0, 1]; one text per seed."""
    return numpy.array([[float(mark) for mark in row] for row in rows])


def test_holm_on_published_p_values() -> None:
    """The fifteen p-values of a trial of thrombolysis in table 1 of Benjamini and Hochberg, J. R. Stat. Soc. B 57
    (1995) 289-300: a method that keeps the family-wise error at 0.05 calls the first three real."""
    p_values = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    p_values += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000]
    adjusted = holm(p_values)
    assert sum(value < 0.05 for value in adjusted) == 3
    assert adjusted[:4] == pytest.approx((0.0015, 0.0056, 0.0247, 0.114))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_that_of_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(tuple(multipletests(p_values, method="holm")[1]), abs=1e-12)


def test_mean_over_seeds_by_hand() -> None:
    """Seeds 3/4, 2/4 and 1/4; grand mean 1/2; prompts 1, 2/3, 1/3 and 0.

    Sums of squares: seeds 4 (1/16 + 0 + 1/16) = 1/2; prompts 3 (1/4 + 1/36 + 1/36 + 1/4) = 5/3; all 12 / 4 = 3, so
    the rest 5/6. Mean squares 1/4, 5/9 and 5/36. Variance (5/9 + 1/4 - 5/36) / 12 = 1/18, so the effective number of
    answers is 1/4 / (1/18) = 4.5. Degrees of freedom: (1/18)^2 over ((1/48)^2/2 + (5/108)^2/3 + (5/432)^2/6) = 3.2.
    """
    mean, interval = mean_over_seeds(table("1110", "1100", "1000"), 0.95)
    assert mean == 0.5
    freedom = (1 / 18) ** 2 / ((1 / 48) ** 2 / 2 + (5 / 108) ** 2 / 3 + (5 / 432) ** 2 / 6)
    from scipy.stats import t

    quantile = t.ppf(0.975, freedom)
    half = quantile / (4.5 + quantile**2) * math.sqrt(4.5 / 4 + quantile**2 / 4)
    assert freedom == pytest.approx(3.22, abs=0.05)
    assert interval == pytest.approx((0.5 - half, 0.5 + half))


def test_one_seed_is_wilson_and_unanimous_answers_count_each_prompt_once() -> None:
    assert mean_over_seeds(table("110100"), 0.95) == (0.5, wilson(3, 6))
    assert mean_over_seeds(table("0000000000", "0000000000"), 0.9) == (0.0, wilson(0, 10, 0.9))


def test_seeds_that_answer_alike_are_worth_one_seed() -> None:
    """Three copies tell no more than one: the interval is Wilson's but for Student's quantile."""
    row = "1" * 30 + "0" * 70
    _, interval = mean_over_seeds(table(row, row, row), 0.95)
    assert interval == pytest.approx(wilson(30, 100), abs=0.004)


def test_seeds_that_disagree_widen_the_interval() -> None:
    apart = mean_over_seeds(table("1" * 90 + "0" * 10, "1" * 50 + "0" * 50, "1" * 10 + "0" * 90), 0.95)[1]
    assert apart.low < 0.1 and apart.high > 0.9


def test_one_seed_each_is_the_exact_test_of_the_rest_of_the_page() -> None:
    first, second = table("1111110000"), table("1000001000")
    difference = difference_over_seeds(first, second, 0.95)
    assert (difference.value, difference.interval) == paired_difference(1, 5, 1, 3)
    assert difference.p_value == mcnemar_exact(5, 1)


def test_without_variance_between_seeds_it_is_the_paired_t_test_over_prompts() -> None:
    """Identical seeds add nothing; what is left is the one-sample t-test with one gained and one lost prompt more,
    and four half prompts' weight: scipy's on the same numbers is a little narrower and as large."""
    draw = numpy.random.default_rng(3)
    first, second = draw.integers(0, 2, 300).astype(float), draw.integers(0, 2, 300).astype(float)
    first[:60] = 1
    copies = [numpy.array([row, row, row]) for row in (first, second)]
    difference = difference_over_seeds(copies[0], copies[1], 0.95)
    plain = ttest_1samp(first - second, 0)
    assert difference.value == pytest.approx((first - second).mean())
    assert difference.p_value == pytest.approx(plain.pvalue, rel=0.4)
    low, high = plain.confidence_interval(0.95)
    assert difference.interval == pytest.approx((low, high), abs=0.01)


def test_a_difference_is_its_own_opposite() -> None:
    first, second = table("111010", "110110"), table("100010", "000110", "010010")
    one, other = difference_over_seeds(first, second, 0.95), difference_over_seeds(second, first, 0.95)
    assert one.value == pytest.approx(-other.value) and one.p_value == pytest.approx(other.p_value)
    assert one.interval == pytest.approx((-other.interval.high, -other.interval.low))


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 12), st.randoms(use_true_random=False))
def test_any_two_tables_give_intervals_around_their_shares(seeds: int, others: int, prompts: int, draw: object) -> None:
    rows = [[float(draw.random() < 0.5) for _ in range(prompts)] for _ in range(seeds + others)]  # type: ignore[attr-defined]
    first, second = numpy.array(rows[:seeds]), numpy.array(rows[seeds:])
    mean, interval = mean_over_seeds(first, 0.95)
    assert 0 <= interval.low <= mean + 1e-12 and mean <= interval.high + 1e-12 and interval.high <= 1
    difference = difference_over_seeds(first, second, 0.95)
    assert -1 <= difference.interval.low <= difference.interval.high <= 1 and 0 <= difference.p_value <= 1


@pytest.mark.parametrize(("seeds", "share"), [(3, 0.1), (3, 0.5), (5, 0.9)])
def test_intervals_cover_new_seeds_and_prompts_and_naive_ones_do_not(seeds: int, share: float) -> None:
    covered, naively = coverage(seeds, share, runs=300)
    assert covered >= 0.9
    assert naively < 0.8


@pytest.mark.parametrize("share", [0.05, 0.4])
def test_equal_settings_are_called_different_no_more_often_than_the_level(share: float) -> None:
    assert false_alarms(3, share, runs=300) < 0.08


def test_a_real_difference_is_found() -> None:
    draw = numpy.random.default_rng(6)
    hard = draw.normal(0, 1, 100)
    assert difference_over_seeds(simulated(draw, 0.9, 3, hard), simulated(draw, 0.1, 3, hard), 0.95).p_value < 0.01
