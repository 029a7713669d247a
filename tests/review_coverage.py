"""How often a rate corrected by people's labels holds the truth: `python -m tests.review_coverage [RUNS]`.

Two tables, each for the two ways: by the labels themselves ("labels") and by the grader's error that they show
("error"). The first is of one model and one kind of prompts, over every combination of true rate, kappa of the grader
with people, which way it errs, and number of answers. The second is of whole runs of two models and three kinds of
prompts, with a sample as `harness review` draws it. The truth is the model's rate over all prompts of the kind, which
the run's own true rate is a draw of. People make no errors.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Literal, NamedTuple

import numpy

from harness.grading.calibration import WeightedLabel, calibrate
from harness.grading.review import shares_of
from harness.statistics import Bounds, Stratum, rogan_gladen, stratified_share, two_phase_share

Errs = Literal["both ways", "misses", "mistakes"]
Way = Literal["labels", "error"]
Target = Literal["model", "run"]
RATES = (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
KAPPAS = (0.5, 0.8, 0.95)
ERRS: tuple[Errs, ...] = ("both ways", "misses", "mistakes")
ANSWERS = (100, 360, 720)
LABELS = (40, 100, 200)
COLUMNS: tuple[tuple[Way, Target], ...] = (("labels", "model"), ("labels", "run"), ("error", "model"))

PROMPTS = {"harmful": 360, "look-alike": 360, "general": 210}
TRUE_REFUSALS = {"refusal": 0.95, "deflection": 0.35, "partial": 0.1, "compliance": 0.04, "incoherent": 0.02}
"""Verdict of the grader -> share of such answers that people call a refusal, whichever the model."""
VERDICTS = {
    "base/harmful": (0.3, 0.1, 0.1, 0.45, 0.05),
    "tuned/harmful": (0.9, 0.04, 0.02, 0.04, 0.0),
    "base/look-alike": (0.03, 0.02, 0.02, 0.88, 0.05),
    "tuned/look-alike": (0.15, 0.05, 0.03, 0.77, 0.0),
    "base/general": (0.005, 0.01, 0.01, 0.925, 0.05),
    "tuned/general": (0.03, 0.02, 0.02, 0.93, 0.0),
}
"""Shares of the grader's verdicts, in the order of TRUE_REFUSALS."""


class Outcome(NamedTuple):
    """Whether an interval holds the model's rate and the run's, and its width."""

    model: bool
    run: bool
    width: float


class Cell(NamedTuple):
    """Answers that share model, kind and verdict: their number, labels, and refusals among both."""

    found: bool
    size: int
    refusals: int
    labelled: int
    labelled_refusals: int


def grader(rate: float, kappa: float, errs: Errs) -> tuple[float, float]:
    """Return shares of refusals missed and of others mistaken for one, that give this kappa with the truth.

    Erring as often both ways, kappa is 1 - missed / (1 - rate). Otherwise it falls steadily, and is found by halving.
    """
    if errs == "both ways":
        return (1 - kappa) * (1 - rate), (1 - kappa) * rate
    low, high = 0.0, 1.0
    for _ in range(50):
        share = (low + high) / 2
        missed, mistaken = (share, 0.0) if errs == "misses" else (0.0, share)
        found = rate * (1 - missed) + (1 - rate) * mistaken
        chance = rate * found + (1 - rate) * (1 - found)
        agreed = 1 - rate * missed - (1 - rate) * mistaken
        low, high = (share, high) if (agreed - chance) / (1 - chance) > kappa else (low, share)
    return (low, 0.0) if errs == "misses" else (0.0, low)


def labelled(
    draw: numpy.random.Generator,
    sizes: Mapping[str, int],
    labels: int,
    share: Mapping[str, float],
) -> dict[str, Cell]:
    """Draw each stratum's true refusals, and labels as a review sample has them."""
    places = shares_of({name: size for name, size in sizes.items() if size}, labels)
    cells = {}
    for name, taken in places.items():
        refusals = int(draw.binomial(sizes[name], share[name]))
        shown = int(draw.hypergeometric(refusals, sizes[name] - refusals, taken)) if taken else 0
        cells[name] = Cell(name.endswith("refusal"), sizes[name], refusals, taken, shown)
    return cells


def corrected(own: Iterable[Cell], seen: Iterable[Cell], rate: float) -> Iterator[tuple[Way, Outcome]]:
    """Correct the rate of `own` answers both ways, the grader's error being known from the labels of `seen`."""
    own = list(own)
    n = sum(cell.size for cell in own)
    in_run = sum(cell.refusals for cell in own) / n
    strata = [Stratum(cell.size, cell.labelled, cell.labelled_refusals) for cell in own]
    if all(stratum.labelled for stratum in strata):
        bounds = two_phase_share(strata)[1]
        of_run = stratified_share(strata)[1]
        yield "labels", Outcome(_holds(bounds, rate), _holds(of_run, in_run), bounds.high - bounds.low)
    rows = [
        WeightedLabel(("m", "p", 0), truth, cell.found, cell.size / cell.labelled)
        for cell in seen
        for truth, count in ((True, cell.labelled_refusals), (False, cell.labelled - cell.labelled_refusals))
        for _ in range(count)
    ]
    error = calibrate(rows)
    by_error = rogan_gladen(sum(cell.size for cell in own if cell.found), n, error[1]) if error else None
    if by_error:
        bounds = by_error[1]
        yield "error", Outcome(_holds(bounds, rate), _holds(bounds, in_run), bounds.high - bounds.low)


def _holds(bounds: Bounds, rate: float) -> bool:
    return bounds.low - 1e-9 <= rate <= bounds.high + 1e-9


def one_rate(
    rate: float, kappa: float, errs: Errs, answers: int, labels: int, runs: int, seed: int = 3407
) -> dict[Way, list[Outcome]]:
    """Runs of one model and one kind of prompts."""
    draw = numpy.random.default_rng(seed)
    missed, mistaken = grader(rate, kappa, errs)
    found = rate * (1 - missed) + (1 - rate) * mistaken
    share = {"refusal": rate * (1 - missed) / found, "other": rate * missed / (1 - found)}
    outcomes: dict[Way, list[Outcome]] = {"labels": [], "error": []}
    for _ in range(runs):
        refused = int(draw.binomial(answers, found))
        cells = labelled(draw, {"refusal": refused, "other": answers - refused}, labels, share).values()
        for way, outcome in corrected(cells, cells, rate):
            outcomes[way].append(outcome)
    return outcomes


def whole_run(labels: int, runs: int, seed: int = 3407) -> dict[str, dict[Way, list[Outcome]]]:
    """Runs of two models and three kinds of prompts; the error is known from the labels of both models."""
    draw = numpy.random.default_rng(seed)
    outcomes: dict[str, dict[Way, list[Outcome]]] = defaultdict(lambda: {"labels": [], "error": []})
    share = {f"{place}/{verdict}": true for place in VERDICTS for verdict, true in TRUE_REFUSALS.items()}
    for _ in range(runs):
        sizes: dict[str, int] = {}
        for place, shares in VERDICTS.items():
            counts = draw.multinomial(PROMPTS[_kind(place)], shares)
            sizes |= {f"{place}/{v}": int(n) for v, n in zip(TRUE_REFUSALS, counts, strict=True)}
        cells = labelled(draw, sizes, labels, share)
        for place, shares in VERDICTS.items():
            rate = sum(part * true for part, true in zip(shares, TRUE_REFUSALS.values(), strict=True))
            own = [cell for name, cell in cells.items() if name.startswith(place)]
            kind = [cell for name, cell in cells.items() if (_kind(name) == "harmful") == (_kind(place) == "harmful")]
            for way, outcome in corrected(own, kind, rate):
                outcomes[place][way].append(outcome)
    return outcomes


def _kind(name: str) -> str:
    return name.split("/")[1]


def _share(outcomes: list[Outcome], target: Target) -> float:
    held = [outcome.model if target == "model" else outcome.run for outcome in outcomes]
    return float(numpy.mean(held)) if held else float("nan")


def _width(outcomes: list[Outcome]) -> float:
    return float(numpy.mean([outcome.width for outcome in outcomes])) if outcomes else float("nan")


def print_grid(runs: int) -> None:
    """Print mean and lowest coverage over the combinations, and mean width, of each number of labels and kappa."""
    print("| labels | kappa | labels: model's, lowest | run's, lowest | width | error: model's, lowest | width |")
    print("| -: | -: | -: | -: | -: | -: | -: |")
    for labels, kappa in product(LABELS, KAPPAS):
        cells = [
            one_rate(rate, kappa, errs, answers, labels, runs)
            for rate, errs, answers in product(RATES, ERRS, ANSWERS)
            if labels <= answers
        ]
        texts = []
        for way, target in COLUMNS:
            held = [_share(cell[way], target) for cell in cells if cell[way]]
            texts.append(f"{numpy.mean(held):.1%}, {min(held):.1%}")
        widths = [
            f"{numpy.mean([_width(cell[way]) for cell in cells if cell[way]]):.3f}" for way in ("labels", "error")
        ]
        print(f"| {labels} | {kappa} | {texts[0]} | {texts[1]} | {widths[0]} | {texts[2]} | {widths[1]} |", flush=True)


def print_runs(runs: int) -> None:
    """Print coverage of the model's rate and mean width for each model and kind."""
    print("| labels | model/prompts | labels: model's | run's | width | error: model's | width |")
    print("| -: | :- | -: | -: | -: | -: | -: |")
    for labels in (100, 200):
        for place, ways in whole_run(labels, runs).items():
            own, error = ways["labels"], ways["error"]
            by_labels = f"{_share(own, 'model'):.1%} | {_share(own, 'run'):.1%} | {_width(own):.3f}"
            by_error = f"{_share(error, 'model'):.1%} | {_width(error):.3f}"
            print(f"| {labels} | {place} | {by_labels} | {by_error} |")


if __name__ == "__main__":
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print_grid(count)
    print()
    print_runs(count)
