"""How good is the grader? Its verdicts against labelled answers, and its known error on the gold set."""

from __future__ import annotations

import json
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

from harness.grading.labelled import Scheme, read_labelled, scheme_of
from harness.grading.lexicon import LexiconGrader
from harness.records import Expected, Record, Verdict
from harness.statistics import Bounds, Calibration, cohen_kappa

GOLD_FILE = Path(__file__).with_name("gold_ko.jsonl")
_DISAGREEMENTS_SHOWN = 15


class GoldAnswer(Record):
    """One row of the gold set. `label_1` and `label_2` are two passes made apart; `label` settles them."""

    id: str
    prompt: str
    response: str
    expected: Expected
    shape: str
    label_1: Verdict
    label_2: Verdict
    label: Verdict


class Disagreement(NamedTuple):
    """A row that the grader and the label see differently."""

    id: str
    label: str
    verdict: str
    rule: str


class GraderEvaluation(NamedTuple):
    """Agreement of the lexicon grader with a labelled file. `confusion` is keyed by (label, verdict's label)."""

    file: str
    scheme: Scheme
    grader_version: str
    rows: int
    found: Calibration
    precision: float
    recall: float
    f1: float
    kappa: float
    kappa_interval: Bounds
    kappa_all_classes: float
    kappa_all_classes_interval: Bounds
    accuracy: float
    classes: tuple[str, ...]
    confusion: dict[tuple[str, str], int]
    verdicts: dict[str, int]
    answers_per_second: float
    disagreements: tuple[Disagreement, ...]


def evaluate_file(path: Path) -> GraderEvaluation:
    """Grade every row of a labelled JSONL file and compare. Raises InvalidInput for a file it cannot use."""
    rows = read_labelled(path)
    scheme = scheme_of(path, rows)
    grader = LexiconGrader()
    started = time.process_time()
    verdicts = [grader.grade(row.prompt, row.response) for row in rows]
    seconds = time.process_time() - started
    truth = [scheme.classes[row.label] for row in rows]
    graded = [scheme.verdicts[verdict.verdict] for verdict in verdicts]
    found = _found([t == scheme.positive for t in truth], [g == scheme.positive for g in graded])
    false_alarms = found.others - found.others_found
    present = set(truth) | set(graded)
    classes = tuple(dict.fromkeys(name for name in scheme.classes.values() if name in present))
    confusion = Counter(zip(truth, graded, strict=True))
    kappa, kappa_interval = cohen_kappa(
        [
            [found.refusals_found, found.refusals - found.refusals_found],
            [false_alarms, found.others_found],
        ]
    )
    kappa_all, kappa_all_interval = cohen_kappa([[confusion[a, b] for b in classes] for a in classes])
    return GraderEvaluation(
        file=path.name,
        scheme=scheme,
        grader_version=grader.version,
        rows=len(rows),
        found=found,
        precision=_share(found.refusals_found, found.refusals_found + false_alarms),
        recall=_share(found.refusals_found, found.refusals),
        f1=_share(2 * found.refusals_found, found.refusals + found.refusals_found + false_alarms),
        kappa=kappa,
        kappa_interval=kappa_interval,
        kappa_all_classes=kappa_all,
        kappa_all_classes_interval=kappa_all_interval,
        accuracy=_share(sum(t == g for t, g in zip(truth, graded, strict=True)), len(rows)),
        classes=classes,
        confusion=dict(confusion),
        verdicts=dict(Counter(verdict.verdict for verdict in verdicts)),
        answers_per_second=len(rows) / max(seconds, 1e-6),
        disagreements=tuple(
            Disagreement(row.id, row.label, verdict.verdict, verdict.evidence[0].rule if verdict.evidence else "")
            for row, verdict, t, g in zip(rows, verdicts, truth, graded, strict=True)
            if t != g
        ),
    )


@cache
def calibration(expected: Expected | None = None) -> Calibration:
    """The lexicon grader's error on the gold set: refusals it finds, other answers it leaves alone.

    `expected` narrows it to answers to prompts of that kind, since the error differs between answers to harmful
    and to harmless prompts.
    """
    grader = LexiconGrader()
    rows = [row for row in read_gold() if expected in (None, row.expected)]
    return _found(
        [row.label == "refusal" for row in rows],
        [grader.grade(row.prompt, row.response).verdict == "refusal" for row in rows],
    )


def read_gold() -> list[GoldAnswer]:
    """The gold set that ships with the package."""
    return [GoldAnswer(**json.loads(line)) for line in GOLD_FILE.read_text(encoding="utf-8").splitlines()]


def _found(truth: list[bool], graded: list[bool]) -> Calibration:
    """Count refusals and other answers, and how many of each the grader sees as what they are."""
    pairs = Counter(zip(truth, graded, strict=True))
    return Calibration(
        refusals=pairs[True, True] + pairs[True, False],
        refusals_found=pairs[True, True],
        others=pairs[False, True] + pairs[False, False],
        others_found=pairs[False, False],
    )


def render(evaluation: GraderEvaluation) -> str:
    """The evaluation as plain text for a terminal."""
    scheme, found = evaluation.scheme, evaluation.found
    width = max(len(name) for name in evaluation.classes) + 2
    lines = [
        f"{evaluation.file}: {evaluation.rows} answers, label scheme '{scheme.name}'",
        f"  {scheme.about}",
        f"  verdicts counted as: {', '.join(f'{v} -> {c}' for v, c in scheme.verdicts.items())}",
        f"  grader lexicon {evaluation.grader_version}, "
        f"{evaluation.answers_per_second:,.0f} answers/s on one core (CPU time)",
        "",
        f"'{scheme.positive}' against the rest",
        f"  F1 {evaluation.f1:.3f}   kappa {evaluation.kappa:.3f} {_interval(evaluation.kappa_interval)}   "
        f"precision {evaluation.precision:.3f}   recall {evaluation.recall:.3f}",
        f"  {found.refusals_found} of {found.refusals} refusals found, "
        f"{found.others - found.others_found} of {found.others} other answers taken for refusals",
        f"all {len(evaluation.classes)} classes: kappa {evaluation.kappa_all_classes:.3f} "
        f"{_interval(evaluation.kappa_all_classes_interval)}, accuracy {evaluation.accuracy:.3f}",
        "",
        "label (down) by verdict (across)",
        " " * (width + 2) + "".join(f"{name:>{width}}" for name in evaluation.classes),
    ]
    lines += [
        f"  {label:<{width}}"
        + "".join(f"{evaluation.confusion.get((label, graded), 0):>{width}}" for graded in evaluation.classes)
        for label in evaluation.classes
    ]
    if evaluation.disagreements:
        lines += ["", f"disagreements ({len(evaluation.disagreements)}), the first of them:"]
        lines += [
            f"  {row.id}: label {row.label}, verdict {row.verdict}" + (f" by rule {row.rule}" if row.rule else "")
            for row in evaluation.disagreements[:_DISAGREEMENTS_SHOWN]
        ]
    return "\n".join(lines)


def _interval(bounds: Bounds) -> str:
    return f"[{bounds.low:.3f}, {bounds.high:.3f}]"


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
