"""Measured figures of a gate: medians of raw values, and their ratio to another model's or another run's.

Two runs' speeds are compared only where machine, GPU and versions are the same, unless the gate says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from statistics import median

from harness.gates.figures import Figure, NoData, Side
from harness.gates.medians import median_interval, median_ratio
from harness.gates.vocabulary import HOW_IT_WAS_RUN, conditions_text, fitting, varying
from harness.records import Measurement, Said, Scalar
from harness.suite import Gate
from harness.summary import Summary, TrainingReport

PACKAGES_THAT_CHANGE_SPEED = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "accelerate",
    "unsloth",
    "unsloth_zoo",
    "bitsandbytes",
    "vllm",
)


def quantity(side: Side, gate: Gate) -> Figure:
    """The median of a measurement's values with its bootstrap interval."""
    found = _chosen(side, gate)
    interval = median_interval(found.values, side.summary.confidence)
    return Figure("quantity", median(found.values), interval, len(found.values), "values", found.unit)


def quotient(before: Side, after: Side, gate: Gate) -> Figure:
    """The ratio of the medians of two measurements made under the same conditions."""
    now = _chosen(after, gate)
    wanted = _what_was_fixed(now)
    measured = [one for one in _measured(before, gate.metric) if _what_was_fixed(one) == wanted]
    measured = [one for one in measured if one.conditions.get("study") == now.conditions.get("study")] or measured
    if not measured:
        raise NoData(
            f"{before.model} 쪽에는 같은 조건의 측정이 없습니다: {conditions_text(wanted)}",
            f"{before.model} was not measured there under the same conditions: {conditions_text(wanted)}",
        )
    then = _comparable(measured[0])
    if min(*then.values, *now.values) <= 0:
        raise NoData("0 이하의 값으로는 비율을 낼 수 없습니다.", "there is no ratio of values that are not positive.")
    _refuse_other_machine(before, after, gate)
    ratio, interval = median_ratio(now.values, then.values, after.summary.confidence)
    return Figure("ratio", ratio, interval, min(len(now.values), len(then.values)), "values", now.unit)


def training_quantity(side: Side, gate: Gate) -> Figure:
    """What a training step cost; `side.model` is the training step."""
    report = _training(side)
    value, unit = _cost(report, gate.metric)
    note = Said(
        ko="어댑터를 캐시에서 가져왔습니다. 학습한 때의 값입니다.",
        en="the adapter came from the cache; this is what its training cost then.",
    )
    return Figure("quantity", value, None, 1, "values", unit, (note,) if report.cached else ())


def training_quotient(before: Side, after: Side, gate: Gate) -> Figure:
    """What a training step cost, as a ratio to what it cost in another run."""
    first, second = _training(before), _training(after)
    then, now = _cost(first, gate.metric)[0], _cost(second, gate.metric)[0]
    if min(then, now) <= 0:
        raise NoData("0 이하의 값으로는 비율을 낼 수 없습니다.", "there is no ratio of values that are not positive.")
    devices = {"machine.device": (first.result.device_name, second.result.device_name)}
    _refuse_other_machine(before, after, gate, devices)
    work = {"steps": (first.result.steps, second.result.steps), "tokens": (first.result.tokens, second.result.tokens)}
    changed = ", ".join(f"{key} {old} → {new}" for key, (old, new) in work.items() if old != new)
    notes = (Said(ko=f"학습의 양이 다릅니다: {changed}.", en=f"the work was not the same: {changed}."),)
    return Figure("ratio", now / then, None, 1, "values", notes=notes if changed else ())


def environment_differences(before: Summary, after: Summary, model: str = "") -> dict[str, tuple[str, str]]:
    """Parts of machine and versions that are not the same, by name ('machine.cpu'): what they were and what they are.

    Only what can change a speed: commits of the harness and of the project may differ.
    """
    old, new = _environment(before, model), _environment(after, model)
    return {
        key: (old.get(key, "-"), new.get(key, "-"))
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    }


def _environment(summary: Summary, model: str) -> dict[str, str]:
    environment = summary.header.environment
    gpus = ", ".join(f"{gpu.name} ({gpu.memory_bytes / 2**30:.0f} GiB)" for gpu in environment.gpus)
    facts = {
        "machine.cpu": environment.cpu,
        "machine.cpu_cores": str(environment.cpu_cores),
        "machine.gpus": gpus or "none",
        "versions.python": environment.python,
        "versions.driver": ", ".join(dict.fromkeys(gpu.driver for gpu in environment.gpus)) or "none",
    }
    devices = dict.fromkeys(loaded.device for loaded in summary.loaded if loaded.model == model)
    if devices:
        facts["machine.device"] = ", ".join(devices)
    return facts | {
        f"versions.{name}": environment.packages[name]
        for name in PACKAGES_THAT_CHANGE_SPEED
        if name in environment.packages
    }


def _refuse_other_machine(
    before: Side, after: Side, gate: Gate, further: Mapping[str, tuple[str, str]] | None = None
) -> None:
    """Raise NoData naming every difference between two runs that the gate does not allow."""
    if before.run is after.run:
        return
    differences = environment_differences(before.summary, after.summary, after.model)
    differences |= {key: both for key, both in (further or {}).items() if both[0] != both[1]}
    refused = [
        f"{key} {old} → {new}" for key, (old, new) in differences.items() if key.split(".")[0] not in gate.may_differ
    ]
    if refused:
        text = "; ".join(refused)
        raise NoData(
            f"기계나 버전이 달라 속도를 비교할 수 없습니다 (may_differ로 허용할 수 있음): {text}",
            f"machine or versions are not the same, so this is no fair comparison (may_differ allows it): {text}",
        )


def _measured(side: Side, metric: str) -> list[Measurement]:
    return [one for one in side.summary.measurements if (one.model, one.name) == (side.model, metric) and one.values]


def _chosen(side: Side, gate: Gate) -> Measurement:
    """The one measurement that the gate means."""
    measured = _measured(side, gate.metric)
    if not measured:
        names = ", ".join(dict.fromkeys(one.name for one in side.summary.measurements if one.model == side.model))
        raise NoData(
            f"{side.model} 모델에는 {gate.metric}의 측정이 없습니다. 있는 측정: {names or '없음'}",
            f"{gate.metric} was not measured for {side.model}; measured were: {names or 'none'}",
        )
    found = [measured[number] for number in fitting([one.conditions for one in measured], gate.conditions)]
    if len(found) == 1:
        return _comparable(found[0])
    listed = _choices(one.conditions for one in found or measured)
    raise NoData(
        f"조건에 맞는 측정이 {len(found)}개입니다. 잰 조건: {listed}",
        f"{len(found)} measurements fit the conditions; measured were: {listed}",
    )


def _choices(conditions: Iterable[Mapping[str, Scalar]]) -> str:
    measured = list(conditions)
    choices = varying(measured)
    if not choices:
        return conditions_text(measured[0])
    return "; ".join(f"{key}: {', '.join(map(str, values))}" for key, values in choices.items())


def _comparable(measurement: Measurement) -> Measurement:
    if measurement.not_comparable is not None:
        reason = measurement.not_comparable
        raise NoData(f"비교할 수 없는 측정입니다: {reason}", f"this measurement must not be compared: {reason}")
    return measurement


def _what_was_fixed(measurement: Measurement) -> dict[str, Scalar]:
    return {key: value for key, value in sorted(measurement.conditions.items()) if key not in HOW_IT_WAS_RUN}


def _training(side: Side) -> TrainingReport:
    for report in side.summary.trainings:
        if report.result.training == side.model:
            return report
    raise NoData(f"학습 {side.model}의 기록이 없습니다.", f"there is no record of a training step {side.model}.")


def _cost(report: TrainingReport, metric: str) -> tuple[float, str]:
    result = report.result
    return (result.seconds, "s") if metric == "training_seconds" else (float(result.memory_peak_bytes), "bytes")
