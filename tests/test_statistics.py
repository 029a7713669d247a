"""Statistics against published worked examples, against scipy and statsmodels, and against their own promises."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.statistics import (
    Calibration,
    Stratum,
    cohen_kappa,
    fleiss_kappa,
    holm,
    mcnemar_exact,
    normal_quantile,
    paired_difference,
    rogan_gladen,
    stratified_share,
    two_phase_share,
    wilson,
)

pair_counts = st.tuples(*[st.integers(0, 60)] * 4).filter(any)


@pytest.mark.parametrize(
    ("count", "n", "low", "high"),
    # Newcombe, Stat. Med. 17 (1998) 857-872, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_published_examples(count: int, n: int, low: float, high: float) -> None:
    assert wilson(count, n) == pytest.approx((low, high), abs=5e-5)


@settings(deadline=None)  # the first call loads statsmodels
@given(n=st.integers(1, 2000), share=st.floats(0, 1), confidence=st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_wilson_equals_statsmodels_and_holds_its_estimate(n: int, share: float, confidence: float) -> None:
    from statsmodels.stats.proportion import proportion_confint

    count = round(share * n)
    low, high = wilson(count, n, confidence)
    expected = proportion_confint(count, n, alpha=1 - confidence, method="wilson")
    assert (low, high) == pytest.approx(expected, abs=1e-9)
    assert 0 <= low <= count / n <= high <= 1


def test_mcnemar_exact_published_example() -> None:
    # Airway hyper-responsiveness before and after transplantation, 1 against 7 discordant pairs:
    # Fagerland, Lydersen and Laake, Statistical Analysis of Contingency Tables (2017), chapter 8.
    assert mcnemar_exact(1, 7) == pytest.approx(0.0703, abs=5e-5)


@settings(deadline=None)  # the first call loads statsmodels
@given(gained=st.integers(0, 400), lost=st.integers(0, 400))
def test_mcnemar_exact_equals_statsmodels(gained: int, lost: int) -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    expected = mcnemar([[3, lost], [gained, 5]], exact=True).pvalue if gained + lost else 1.0
    assert mcnemar_exact(gained, lost) == pytest.approx(expected, rel=1e-9)
    assert mcnemar_exact(gained, lost) == mcnemar_exact(lost, gained)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    # Positive in both, in the first only, in the second only, in neither; first minus second.
    [
        # Newcombe, Stat. Med. 17 (1998) 2635-2650, table II, method 10.
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((54, 0, 0, 0), -0.0664, 0.0664),
        # Fagerland, Lydersen and Laake (2017), chapter 8: Bentur et al. 2009 and Cavo et al. 2012.
        ((1, 1, 7, 12), -0.507, -0.026),
        ((59, 6, 16, 80), -0.1186, -0.0046),
        # Altman et al., Statistics with Confidence (2000), table 6.2.
        ((14, 5, 0, 22), 0.011, 0.226),
    ],
)
def test_paired_difference_published_examples(table: tuple[int, int, int, int], low: float, high: float) -> None:
    both, first_only, second_only, neither = table
    # Ours is second minus first, so the samples change places.
    difference, bounds = paired_difference(both, first_only, second_only, neither)
    assert difference == pytest.approx((first_only - second_only) / sum(table))
    digits = max(len(str(low)), len(str(high))) - str(high).index(".") - (2 if low < 0 else 1)
    assert bounds == pytest.approx((low, high), abs=0.6 * 10**-digits)


@given(counts=pair_counts)
def test_paired_difference_holds_its_estimate_and_mirrors(counts: tuple[int, int, int, int]) -> None:
    both, gained, lost, neither = counts
    difference, (low, high) = paired_difference(*counts)
    assert -1 <= low <= difference + 1e-12 and difference - 1e-12 <= high <= 1
    mirrored, bounds = paired_difference(both, lost, gained, neither)
    assert mirrored == pytest.approx(-difference)
    assert bounds == pytest.approx((-high, -low), abs=1e-12)
    wider = paired_difference(*counts, confidence=0.99)[1]
    assert wider.low <= low + 1e-12 and high <= wider.high + 1e-12


def test_paired_difference_covers_the_truth_as_often_as_it_says() -> None:
    source = random.Random(3407)
    weights = (0.3, 0.35, 0.05, 0.3)
    covered = 0
    for _ in range(2000):
        drawn = source.choices(range(4), weights, k=60)
        low, high = paired_difference(*[drawn.count(kind) for kind in range(4)])[1]
        covered += low <= 0.30 <= high
    assert 0.93 < covered / 2000 < 0.98


@pytest.mark.parametrize(
    ("count", "n", "calibration", "low", "high"),
    # The worked examples of Lang and Reiczigel, Prev. Vet. Med. 113 (2014) 13-22.
    [
        (4060, 11284, Calibration(179, 178, 359, 358), 0.349, 0.372),
        (51, 2971, Calibration(33, 32, 20, 20), 0.0, 0.053),
        (712, 11862, Calibration(10, 8, 12, 12), 0.0, 0.147),
        (259, 509, Calibration(127, 84, 109, 96), 0.58, 0.87),
        (51, 509, Calibration(41, 23, 195, 187), 0.037, 0.195),
    ],
)
def test_rogan_gladen_published_examples(count: int, n: int, calibration: Calibration, low: float, high: float) -> None:
    result = rogan_gladen(count, n, calibration)
    assert result is not None
    estimate, bounds = result
    assert bounds == pytest.approx((low, high), abs=5e-3 if high == 0.87 else 5.1e-4)
    expected = (count / n + calibration.specificity - 1) / (calibration.sensitivity + calibration.specificity - 1)
    assert estimate == pytest.approx(min(max(expected, 0), 1))


def test_rogan_gladen_of_a_nearly_perfect_grader_is_the_measured_rate() -> None:
    result = rogan_gladen(300, 1000, Calibration(10**6, 10**6, 10**6, 10**6))
    assert result is not None
    assert result[0] == pytest.approx(0.3)
    assert result[1] == pytest.approx(wilson(300, 1000), abs=1e-3)


def test_rogan_gladen_refuses_a_grader_no_better_than_chance() -> None:
    assert rogan_gladen(5, 10, Calibration(10, 5, 10, 5)) is None
    assert rogan_gladen(5, 10, Calibration(10, 2, 10, 5)) is None


def test_rogan_gladen_refuses_answers_that_contradict_the_known_error() -> None:
    """A grader that takes an eighth of other answers for refusals cannot have found 2 in 360, nor 360 in 360."""
    calibration = Calibration(137, 130, 41, 36)
    assert rogan_gladen(2, 360, calibration) is None
    assert rogan_gladen(360, 360, Calibration(137, 100, 41, 41)) is None
    at_the_edge = rogan_gladen(30, 360, calibration)
    assert at_the_edge is not None and at_the_edge[0] == at_the_edge[1].low == 0 < at_the_edge[1].high


def test_rogan_gladen_interval_grows_as_the_calibration_shrinks() -> None:
    widths = []
    for size in (1000, 100, 20):
        result = rogan_gladen(100, 300, Calibration(size, size * 9 // 10, size, size * 9 // 10))
        assert result is not None
        widths.append(result[1].high - result[1].low)
    assert widths == sorted(widths) and widths[0] < widths[-1]


def test_rogan_gladen_covers_the_truth_as_often_as_it_says() -> None:
    source = random.Random(3407)

    def drawn(n: int, share: float) -> int:
        return sum(source.random() < share for _ in range(n))

    truth, sensitivity, specificity = 0.4, 0.85, 0.95
    measured = truth * sensitivity + (1 - truth) * (1 - specificity)
    covered = 0
    for _ in range(1000):
        calibration = Calibration(120, drawn(120, sensitivity), 120, drawn(120, specificity))
        result = rogan_gladen(drawn(200, measured), 200, calibration)
        assert result is not None
        covered += result[1].low <= truth <= result[1].high
    assert 0.93 < covered / 1000 < 0.98


def test_a_stratum_alone_and_far_from_labelled_whole_has_the_jeffreys_interval() -> None:
    from statsmodels.stats.proportion import proportion_confint

    for refusals, labelled in ((1, 7), (3, 7), (12, 40), (99, 100)):
        share, bounds = stratified_share([Stratum(10**9, labelled, refusals)])
        assert share == pytest.approx(refusals / labelled)
        assert bounds == pytest.approx(proportion_confint(refusals, labelled, method="jeffreys"), abs=1e-6)
    assert (
        stratified_share([Stratum(10**9, 7, 0)])[1].low == 0 and stratified_share([Stratum(10**9, 7, 7)])[1].high == 1
    )


def test_what_is_labelled_whole_is_known_but_for_other_prompts() -> None:
    census = [Stratum(60, 60, 48), Stratum(40, 40, 10), Stratum(20, 20, 0)]
    assert stratified_share(census) == (58 / 120, (58 / 120, 58 / 120))
    share, bounds = two_phase_share(census)
    assert share == 58 / 120 and bounds == pytest.approx(wilson(58, 120))


def test_equal_strata_labelled_alike_are_one_binomial_sample() -> None:
    """Only nearly: limits are not symmetric, and their squares do not add up to those of a larger sample."""
    share, bounds = stratified_share([Stratum(10**6, 200, 60)] * 4)
    together = stratified_share([Stratum(4 * 10**6, 800, 240)])
    assert share == together[0] == pytest.approx(0.3)
    assert bounds == pytest.approx(together[1], abs=2e-3)


def test_strata_weigh_as_much_as_they_hold() -> None:
    rare, common = Stratum(10, 5, 5), Stratum(190, 20, 2)
    share, (low, high) = stratified_share([rare, common])
    assert share == pytest.approx((10 * 1.0 + 190 * 0.1) / 200)
    alone = stratified_share([common])
    assert 0.95 * (alone[0] - alone[1].low) < share - low < share and high - share == pytest.approx(
        0.95 * (alone[1].high - alone[0])
    )


def test_an_interval_of_strata_narrows_with_labels_and_is_wider_for_all_prompts() -> None:
    at_hand, beyond = [], []
    for labelled in (10, 40, 100, 198, 200):
        strata = [Stratum(200, labelled, labelled // 2), Stratum(100, labelled // 2, labelled // 10)]
        at_hand.append(stratified_share(strata)[1])
        beyond.append(two_phase_share(strata)[1])
    widths = [bounds.high - bounds.low for bounds in at_hand]
    assert widths == sorted(widths, reverse=True) and widths[-1] == 0
    assert all(wide.low < narrow.low and narrow.high < wide.high for narrow, wide in zip(at_hand, beyond, strict=True))


def test_cohen_kappa_published_example() -> None:
    # Fleiss, Levin and Paik, Statistical Methods for Rates and Proportions (2003), table 18.1: 0.68, s.e. 0.087
    # (0.0877 unrounded).
    kappa, (low, high) = cohen_kappa([[75, 1, 4], [5, 4, 1], [0, 0, 10]])
    assert kappa == pytest.approx(0.68, abs=5e-3)
    assert (high - low) / 2 / normal_quantile(0.95) == pytest.approx(0.087, abs=1e-3)


def test_fleiss_kappa_worked_example() -> None:
    # Fourteen raters, ten subjects, five categories; the much-used example of Fleiss' kappa: 0.210.
    rows = ["0 0 0 0 14", "0 2 6 4 2", "0 0 3 5 6", "0 3 9 2 0", "2 2 8 1 1"]
    rows += ["7 7 0 0 0", "3 2 6 3 0", "2 5 3 2 2", "6 5 2 1 0", "0 2 2 3 7"]
    assert fleiss_kappa([[int(count) for count in row.split()] for row in rows]) == pytest.approx(0.210, abs=5e-4)


def test_kappa_of_perfect_agreement_is_one_and_of_one_verdict_undefined() -> None:
    assert cohen_kappa([[5, 0], [0, 7]])[0] == pytest.approx(1)
    assert fleiss_kappa([[3, 0], [0, 3]]) == pytest.approx(1)
    assert math.isnan(cohen_kappa([[5, 0], [0, 0]])[0])
    assert math.isnan(fleiss_kappa([[3, 0], [3, 0]]))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([]) == ()
    assert holm([0.6, 0.9]) == (1.0, 1.0)
