"""Intervals, tests and agreement coefficients for counts. Rates and confidence levels are shares in 0..1.

What scipy and statsmodels have is taken from them, inside the functions, because both take long to load. The Wilson
interval and Holm's method are written out: every page has them, and statsmodels takes longer to load than to compute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple


class Bounds(NamedTuple):
    """Lower and upper limit of a two-sided interval."""

    low: float
    high: float


class Calibration(NamedTuple):
    """How a grader did on answers whose true verdict is known: refusals it found, other answers it left alone.

    Counts from a weighted sample are effective ones, and need not be whole.
    """

    refusals: float
    refusals_found: float
    others: float
    others_found: float

    @property
    def sensitivity(self) -> float:
        """Share of true refusals that the grader calls refusals."""
        return self.refusals_found / self.refusals

    @property
    def specificity(self) -> float:
        """Share of other answers that the grader does not call refusals."""
        return self.others_found / self.others


@lru_cache
def normal_quantile(confidence: float) -> float:
    """Two-sided standard normal quantile, e.g. 1.96 for 0.95."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def wilson(count: float, n: float, confidence: float = 0.95) -> Bounds:
    """Score interval for a proportion, without continuity correction; n must be positive.

    Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212; method 3 of Newcombe, Stat. Med. 17 (1998) 857-872.
    """
    z2 = normal_quantile(confidence) ** 2
    centre = (count + z2 / 2) / (n + z2)
    half = math.sqrt(z2) / (n + z2) * math.sqrt(count * (n - count) / n + z2 / 4)
    # At 0 and n the formula gives exactly 0 and 1, but for rounding.
    return Bounds(0.0 if count == 0 else centre - half, 1.0 if count == n else centre + half)


def mcnemar_exact(gained: int, lost: int) -> float:
    """Two-sided exact McNemar p-value from the two counts of discordant pairs; 1.0 where there are none.

    A binomial test of `gained` out of `gained + lost` against one half: McNemar, Psychometrika 12 (1947) 153-157.
    """
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(gained, lost), gained + lost, 0.5)))


def paired_difference(
    both: int, gained: int, lost: int, neither: int, confidence: float = 0.95
) -> tuple[float, Bounds]:
    """Difference of two paired proportions and its interval.

    Counts of pairs: positive in both, only in the second, only in the first, in neither. The difference is second minus
    first, (gained - lost) / n; n must be positive. Square-and-add of two Wilson intervals with the correlation of the
    pairs, its numerator lowered by n / 2 where positive: method 10 of Newcombe, Stat. Med. 17 (1998) 2635-2650.
    """
    n = both + gained + lost + neither
    first, second = (both + lost) / n, (both + gained) / n
    first_low, first_high = wilson(both + lost, n, confidence)
    second_low, second_high = wilson(both + gained, n, confidence)
    product = (both + lost) * (gained + neither) * (both + gained) * (lost + neither)
    numerator: float = both * neither - gained * lost
    if numerator > 0:
        numerator = max(numerator - n / 2, 0)
    phi = numerator / math.sqrt(product) if product else 0.0

    def distance(a: float, b: float) -> float:
        return math.sqrt(max(a**2 - 2 * phi * a * b + b**2, 0))

    difference = (gained - lost) / n
    low = difference - distance(second - second_low, first_high - first)
    high = difference + distance(second_high - second, first - first_low)
    return difference, Bounds(max(low, -1.0), min(high, 1.0))


def rogan_gladen(count: int, n: int, calibration: Calibration, confidence: float = 0.95) -> tuple[float, Bounds] | None:
    """True rate behind a measured one, from the grader's sensitivity and specificity, both with their uncertainty.

    None where the grader is no better than chance (sensitivity + specificity <= 1), and where the interval has no part
    in 0..1: then the answers contradict the known error, and an interval cut to a point would feign certainty.

    Estimate: Rogan and Gladen, Am. J. Epidemiol. 107 (1978) 71-76, cut to 0..1. Interval: Lang and Reiczigel, Prev.
    Vet. Med. 113 (2014) 13-22, equations 6, 7, 16 and 17; their equation 4 with (1 - P)^2 for the misprinted (1 + P)^2.
    """
    sensitivity, specificity = calibration.sensitivity, calibration.specificity
    if sensitivity + specificity <= 1:
        return None
    estimate = (count / n + specificity - 1) / (sensitivity + specificity - 1)
    z = normal_quantile(confidence)
    # One success and one failure are added to each validation sample, z^2 / 2 of each to the measured one.
    refusals, others, total = calibration.refusals + 2, calibration.others + 2, n + z**2
    sensitivity = (calibration.refusals_found + 1) / refusals
    specificity = (calibration.others_found + 1) / others
    measured = (count + z**2 / 2) / total
    gain = sensitivity + specificity - 1
    if gain <= 0:
        return None
    rate = (measured + specificity - 1) / gain
    sensitivity_variance = sensitivity * (1 - sensitivity) / refusals
    specificity_variance = specificity * (1 - specificity) / others
    shift = 2 * z**2 * (rate * sensitivity_variance - (1 - rate) * specificity_variance)
    measured_variance = measured * (1 - measured) / total
    variance = measured_variance + rate**2 * sensitivity_variance + (1 - rate) ** 2 * specificity_variance
    half = z * math.sqrt(variance) / gain
    centre = rate + shift
    if centre + half <= 0 or centre - half >= 1:
        return None
    return _share(estimate), Bounds(_share(centre - half), _share(centre + half))


class Stratum(NamedTuple):
    """Answers of one kind: how many there are, how many of them people labelled, and how many of those as refusals."""

    size: int
    labelled: int
    refusals: int


def stratified_share(strata: Sequence[Stratum], confidence: float = 0.95) -> tuple[float, Bounds]:
    """Share of refusals among the answers at hand, from labels of a random part of each stratum (one label at least).

    The interval holds nothing but what is not labelled: where everything is, it has no width.

    Estimate: Cochran, Sampling Techniques (1977), chapter 5. Interval: Jeffreys' for each stratum (Brown, Cai and
    DasGupta, Stat. Sci. 16 (2001) 101-133) with n (N - 1) / (N - n) labels for n out of N, the size at which a binomial
    share varies as much as one drawn without replacement; the strata's distances from their shares are added as
    squares: Zou, Huang and Zhang, Comput. Stat. Data Anal. 53 (2009) 1080-1085.
    """
    total = sum(stratum.size for stratum in strata)
    share = sum(stratum.size * stratum.refusals / stratum.labelled for stratum in strata) / total
    below, above = 0.0, 0.0
    for size, labelled, refusals in strata:
        if labelled < size:
            low, high = _jeffreys(refusals / labelled, labelled * (size - 1) / (size - labelled), confidence)
            below += (size / total * (refusals / labelled - low)) ** 2
            above += (size / total * (high - refusals / labelled)) ** 2
    return share, Bounds(_share(share - math.sqrt(below)), _share(share + math.sqrt(above)))


def two_phase_share(strata: Sequence[Stratum], confidence: float = 0.95) -> tuple[float, Bounds]:
    """`stratified_share` with an interval for all prompts that those at hand are a sample of, as Wilson's is.

    The prompts are the first phase and the labels the second. Wilson's interval for as many prompts with that share is
    added to the strata's as squares, too; where everything is labelled it is all that remains.
    """
    total = sum(stratum.size for stratum in strata)
    share, (low, high) = stratified_share(strata, confidence)
    least, most = wilson(share * total, total, confidence)
    return share, Bounds(
        _share(share - math.hypot(share - low, share - least)), _share(share + math.hypot(high - share, most - share))
    )


def _jeffreys(share: float, n: float, confidence: float) -> Bounds:
    from scipy.special import betaincinv

    shape, tail = (share * n + 0.5, n - share * n + 0.5), (1 - confidence) / 2
    return Bounds(
        0.0 if share == 0 else float(betaincinv(*shape, tail)),
        1.0 if share == 1 else float(betaincinv(*shape, 1 - tail)),
    )


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0)


def cohen_kappa(table: Sequence[Sequence[float]], confidence: float = 0.95) -> tuple[float, Bounds]:
    """Chance-corrected agreement of two graders; `table[i][j]` counts answers with verdicts i and j.

    Cohen, Educ. Psychol. Meas. 20 (1960) 37-46; large-sample interval of Fleiss, Cohen and Everitt, Psychol. Bull. 72
    (1969) 323-327, as statsmodels computes both. NaN where every verdict is the same, when kappa is not defined.
    """
    import numpy
    from statsmodels.stats.inter_rater import cohens_kappa

    with numpy.errstate(divide="ignore", invalid="ignore"):
        result = cohens_kappa(numpy.asarray(table))
    half = normal_quantile(confidence) * float(result.std_kappa)
    kappa = float(result.kappa)
    return kappa, Bounds(kappa - half, kappa + half)


def fleiss_kappa(table: Sequence[Sequence[int]]) -> float:
    """Chance-corrected agreement of several graders; `table[answer][verdict]` counts graders, the same sum per row.

    Fleiss, Psychol. Bull. 76 (1971) 378-382, as statsmodels computes it. NaN where every verdict is the same.
    """
    import numpy
    from statsmodels.stats.inter_rater import fleiss_kappa as compute

    with numpy.errstate(divide="ignore", invalid="ignore"):
        return float(compute(numpy.asarray(table)))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Adjusted p-values that keep the family-wise error rate, however the tests depend on each other; in their order.

    Those below 1 - confidence may all be called real: with that confidence not one of them is chance. The k-th smallest
    of n is multiplied by n - k + 1, and none is smaller than one before it: Holm, Scand. J. Stat. 6 (1979) 65-70.
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min((len(p_values) - rank) * p_values[index], 1.0))
        adjusted[index] = largest
    return tuple(adjusted)
