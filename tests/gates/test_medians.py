"""Bootstrap intervals against what is known of the samples they are drawn from."""

from __future__ import annotations

import numpy
import pytest

from harness.gates.medians import median_interval, median_ratio


def test_fewer_than_three_values_have_no_interval() -> None:
    assert median_interval([1.0, 2.0], 0.95) is None
    assert median_ratio([2.0, 2.0], [1.0, 1.0, 1.0], 0.95) == (2.0, None)


def test_three_values_give_their_whole_range() -> None:
    assert median_interval([3.0, 1.0, 2.0], 0.95) == (1.0, 3.0)
    assert median_ratio([2.0, 4.0, 3.0], [1.0, 1.0, 1.0], 0.95) == (3.0, (2.0, 4.0))


def test_equal_values_have_an_interval_without_width() -> None:
    assert median_ratio([5.0] * 5, [4.0] * 5, 0.95) == (1.25, (1.25, 1.25))


def test_the_same_values_give_the_same_interval_each_time() -> None:
    draw = numpy.random.default_rng(1)
    first, second = draw.lognormal(size=9).tolist(), draw.lognormal(size=7).tolist()
    assert median_ratio(first, second, 0.95) == median_ratio(first, second, 0.95)


def test_a_higher_confidence_is_a_wider_interval() -> None:
    values = numpy.random.default_rng(2).lognormal(size=15).tolist()
    narrow, wide = median_interval(values, 0.8), median_interval(values, 0.99)
    assert narrow is not None and wide is not None
    assert wide.low < narrow.low < narrow.high < wide.high


@pytest.mark.parametrize(("passes", "at_least"), [(3, 0.82), (5, 0.90), (10, 0.90)])
def test_intervals_hold_the_true_ratio_about_as_often_as_they_say(passes: int, at_least: float) -> None:
    """Two models of equal speed, passes with a spread of 5 percent and a tail to the slow side."""
    draw = numpy.random.default_rng(3)
    rounds = 100
    held = 0
    for _ in range(rounds):
        first, second = (1 / (1 + draw.exponential(0.05, passes)) for _ in range(2))
        _, bounds = median_ratio(first.tolist(), second.tolist(), 0.95)
        assert bounds is not None
        held += bounds.low <= 1 <= bounds.high
    assert held / rounds >= at_least
