"""How far graders agree: kappas with their n, and the answers they judge differently.

Two views of the same grades: the verdicts as they are, and refusal against everything else, which is what the
headline counts. 'unscored' is no verdict: an answer that a grader could not decide is left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

from harness.grading.passes import AnswerKey, key_of
from harness.records import Grade, Verdict
from harness.statistics import cohen_kappa, fleiss_kappa
from harness.summary import Disagreement, GroupAgreement, Interval, Kappa, LabelFlip, PairAgreement

Grades = Mapping[str, Sequence[Grade]]
"""'grader@version' -> its grades."""
View = Callable[[Verdict], str]
BOOTSTRAP_SAMPLES = 2000
BOOTSTRAP_SEED = 3407


def as_given(verdict: Verdict) -> str:
    """Take the verdict as it is."""
    return verdict


def refusal_or_not(verdict: Verdict) -> str:
    """Take everything but a refusal as one."""
    return "refusal" if verdict == "refusal" else "other"


def agree_in_pair(grades: Grades, first: str, second: str, confidence: float = 0.95) -> PairAgreement:
    """Compare two graders on the answers that both have graded."""
    rows, undecided = _decided(grades, (first, second))
    return PairAgreement(
        first=first,
        second=second,
        undecided=undecided,
        verdicts=_cohen(rows, as_given, confidence),
        refusal=_cohen(rows, refusal_or_not, confidence),
    )


def agree_in_group(grades: Grades, graders: Sequence[str], confidence: float = 0.95) -> GroupAgreement:
    """Compare several graders at once on the answers that all of them have graded."""
    rows, undecided = _decided(grades, graders)
    return GroupAgreement(
        graders=tuple(graders),
        undecided=undecided,
        verdicts=_fleiss(rows, as_given, confidence),
        refusal=_fleiss(rows, refusal_or_not, confidence),
    )


def disagreements(grades: Grades) -> tuple[Disagreement, ...]:
    """List the answers with two different verdicts or more, 'unscored' apart, in the order of the first grader."""
    verdicts: dict[AnswerKey, dict[str, Verdict]] = {}
    for grader, given in grades.items():
        for grade in given:
            verdicts.setdefault(key_of(grade), {})[grader] = grade.verdict
    return tuple(
        Disagreement(model=model, prompt_id=prompt_id, repeat=repeat, verdicts=by_grader)
        for (model, prompt_id, repeat), by_grader in verdicts.items()
        if len(set(by_grader.values()) - {"unscored"}) > 1
    )


def label_flips(earlier: Sequence[Grade], later: Sequence[Grade]) -> tuple[LabelFlip, ...]:
    """List the answers whose verdict differs between two passes, 'unscored' included."""
    before = {key_of(grade): grade for grade in earlier}
    return tuple(
        LabelFlip(
            earlier=f"{old.grader}@{old.grader_version}",
            later=f"{new.grader}@{new.grader_version}",
            model=new.model,
            prompt_id=new.prompt_id,
            repeat=new.repeat,
            earlier_verdict=old.verdict,
            later_verdict=new.verdict,
        )
        for new in later
        if (old := before.get(key_of(new))) is not None and old.verdict != new.verdict
    )


def _decided(grades: Grades, graders: Sequence[str]) -> tuple[list[tuple[Verdict, ...]], int]:
    """Return one row of verdicts per answer that all graders decided, and how many more they all saw."""
    by_grader = [{key_of(grade): grade.verdict for grade in grades[grader]} for grader in graders]
    seen_by_all = [key for key in by_grader[0] if all(key in verdicts for verdicts in by_grader[1:])]
    rows = [tuple(verdicts[key] for verdicts in by_grader) for key in seen_by_all]
    decided = [row for row in rows if "unscored" not in row]
    return decided, len(rows) - len(decided)


def _cohen(rows: Sequence[tuple[Verdict, ...]], view: View, confidence: float) -> Kappa:
    pairs = Counter((view(first), view(second)) for first, second in rows)
    if not pairs:
        return Kappa(n=0, observed=None, value=None, interval=None)
    labels = sorted({label for pair in pairs for label in pair})
    observed = sum(pairs[label, label] for label in labels) / len(rows)
    if len(labels) == 1:
        return Kappa(n=len(rows), observed=observed, value=None, interval=None)
    value, bounds = cohen_kappa([[pairs[row, column] for column in labels] for row in labels], confidence)
    interval = Interval(low=max(-1.0, bounds.low), high=min(1.0, bounds.high)) if bounds.high > bounds.low else None
    return Kappa(n=len(rows), observed=observed, value=value, interval=interval)


def _fleiss(rows: Sequence[tuple[Verdict, ...]], view: View, confidence: float) -> Kappa:
    """Fleiss' kappa with a percentile bootstrap interval over the answers (2,000 seeded samples).

    No large-sample formula for the interval of this kappa is in the libraries; the one in Fleiss' paper tests against
    chance. Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    if not rows:
        return Kappa(n=0, observed=None, value=None, interval=None)
    viewed = [tuple(map(view, row)) for row in rows]
    labels = sorted({label for row in viewed for label in row})
    table = [[row.count(label) for label in labels] for row in viewed]
    observed = sum(_agreeing_pairs(row) for row in viewed) / len(viewed)
    if len(labels) == 1:
        return Kappa(n=len(rows), observed=observed, value=None, interval=None)
    value = fleiss_kappa(table)
    interval = _bootstrap(table, confidence) if observed < 1 else None
    return Kappa(n=len(rows), observed=observed, value=value, interval=interval)


def _agreeing_pairs(row: Sequence[str]) -> float:
    pairs = list(combinations(row, 2))
    return sum(first == second for first, second in pairs) / len(pairs)


def _bootstrap(table: Sequence[Sequence[int]], confidence: float) -> Interval | None:
    """Percentile interval of Fleiss' kappa over resampled answers. Equal rows are drawn together, which is quick."""
    import numpy

    kinds = Counter(map(tuple, table))
    rows = numpy.array(list(kinds), dtype=float)
    counts = numpy.array(list(kinds.values()), dtype=float)
    raters, answers = rows[0].sum(), counts.sum()
    draws = numpy.random.default_rng(BOOTSTRAP_SEED).multinomial(int(answers), counts / answers, size=BOOTSTRAP_SAMPLES)
    agreeing = ((rows**2).sum(axis=1) - raters) / (raters * (raters - 1))
    observed = draws @ agreeing / answers
    by_chance = ((draws @ rows / (answers * raters)) ** 2).sum(axis=1)
    kappas = (observed[by_chance < 1] - by_chance[by_chance < 1]) / (1 - by_chance[by_chance < 1])
    if not len(kappas):
        return None
    low, high = numpy.quantile(kappas, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(low=float(low), high=min(1.0, float(high)))
