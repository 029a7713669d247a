"""`judge`: how every gate went. Pure: no files, no clock; saved runs are read through the function that is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from harness.errors import HarnessError
from harness.gates.ability import score, score_difference
from harness.gates.checks import models_of
from harness.gates.figures import Figure, Kind, NoData, Run, Side, is_number, share, share_difference
from harness.gates.speed import quantity, quotient, training_quantity, training_quotient
from harness.gates.vocabulary import ABILITY, RATES, SHARES, TRAININGS, comparison_of, limit_of
from harness.gates.words import EQUAL
from harness.records import GateResult
from harness.suite import Gate


def judge(gates: Mapping[str, Gate], run: Run, saved: Callable[[str], Run]) -> tuple[GateResult, ...]:
    """Judge every gate for every model it means, in the order of the suite.

    `saved` reads a saved run by its name and may raise HarnessError; the gates that need it then fail for that reason.
    A run that is not complete passes no gate.
    """
    return tuple(
        _judged(name, subject, gate, run, saved) for name, gate in gates.items() for subject in _subjects(gate, run)
    )


def _subjects(gate: Gate, run: Run) -> list[str]:
    """The models or the training step that the gate is about; what it asks for where there is none such."""
    if gate.training is not None:
        return [gate.training]
    models = run.summary.header.suite.get("models")
    names = list(models) if isinstance(models, Mapping) else []
    return models_of(gate, names) or [gate.model or "-"]


def _judged(name: str, subject: str, gate: Gate, run: Run, saved: Callable[[str], Run]) -> GateResult:
    _, limit, or_more = limit_of(gate)
    result = GateResult(
        name=name,
        subject=subject,
        gate=gate.model_dump(mode="json", exclude_defaults=True),
        outcome="no_data",
        kind=_kind(gate),
        limit=limit,
        against=_against(subject, gate, run),
    )
    try:
        if not run.summary.complete:
            raise NoData("실행이 아직 끝나지 않았습니다.", "the run is not complete.")
        figure = _figure(Side(run, subject), gate, saved)
        result = result.model_copy(update=_found(figure))
        judged = _bound(figure, gate)
    except NoData as fault:
        return result.model_copy(update={"reason": fault.reason})
    meets = judged >= limit if or_more else judged <= limit
    meets = meets or math.isclose(judged, limit, rel_tol=EQUAL, abs_tol=EQUAL * 1e-3)
    return result.model_copy(update={"outcome": "passed" if meets else "failed"})


def _found(figure: Figure) -> dict[str, object]:
    return {
        "value": figure.value,
        "low": figure.interval.low if figure.interval else None,
        "high": figure.interval.high if figure.interval else None,
        "n": figure.n,
        "counted": figure.counted,
        "unit": figure.unit,
        "notes": figure.notes,
    }


def _kind(gate: Gate) -> Kind:
    comparison = comparison_of(gate)
    if gate.metric in RATES or gate.metric in SHARES:
        return "share" if comparison == "none" else "difference"
    if gate.metric == ABILITY:
        return "score" if comparison == "none" else "score_difference"
    return "quantity" if comparison == "none" else "ratio"


def _against(subject: str, gate: Gate, run: Run) -> str | None:
    if comparison_of(gate) == "none":
        return None
    return gate.baseline or run.summary.baselines.get(subject)


def _bound(figure: Figure, gate: Gate) -> float:
    """The number that is judged."""
    if gate.bound == "value":
        judged = figure.value
    elif figure.interval is None:
        raise NoData(
            f"구간이 없습니다 (값 {figure.n}개).", f"there is no interval to take a bound of (n = {figure.n})."
        )
    else:
        judged = figure.interval.low if gate.bound == "low" else figure.interval.high
    if not is_number(judged):
        raise NoData(f"값이 수가 아닙니다: {judged}.", f"the figure is not a number: {judged}.")
    return judged


def _figure(side: Side, gate: Gate, saved: Callable[[str], Run]) -> Figure:
    alone = comparison_of(gate) == "none"
    other = side if alone else _other_side(side, gate, saved)
    if gate.metric in RATES or gate.metric in SHARES:
        return share(side, gate) if alone else share_difference(other, side, gate)
    if gate.metric == ABILITY:
        return score(side, gate) if alone else score_difference(other, side, gate)
    if gate.metric in TRAININGS:
        return training_quantity(side, gate) if alone else training_quotient(other, side, gate)
    return quantity(side, gate) if alone else quotient(other, side, gate)


def _other_side(side: Side, gate: Gate, saved: Callable[[str], Run]) -> Side:
    """What the model is compared with: its `compare_to` in the same run, or itself in the saved run."""
    if gate.baseline is None:
        against = side.summary.baselines.get(side.model)
        if against is None:
            raise NoData(
                f"{side.model} 모델에는 비교할 모델이 없습니다 (compare_to).",
                f"{side.model} has no model to be compared with (compare_to).",
            )
        return Side(side.run, against)
    try:
        run = saved(gate.baseline)
    except HarnessError as error:
        raise NoData(f"저장된 실행을 읽을 수 없습니다: {error.message}", error.message) from error
    if not run.summary.complete:
        raise NoData("저장된 실행이 끝나지 않은 것입니다.", f"the saved run {gate.baseline} is not complete.")
    _refuse_unknown(side, gate, run)
    return Side(run, side.model)


def _refuse_unknown(side: Side, gate: Gate, run: Run) -> None:
    suite = run.summary.header.suite
    section = suite.get("training" if gate.training is not None else "models")
    names = list(section) if isinstance(section, Mapping) else []
    if side.model not in names:
        listed = ", ".join(names) or "-"
        raise NoData(
            f"저장된 실행에 없는 모델입니다: {side.model}. 있는 것: {listed}",
            f"the saved run {gate.baseline} has no {side.model}; it has: {listed}",
        )
