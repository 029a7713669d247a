"""What a gate can be about: the names of metrics, limits and conditions, and which of them go together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from harness.records import Scalar
from harness.suite import Gate
from harness.summary import Group

Comparison = Literal["none", "difference", "ratio"]

LIMITS: dict[str, Comparison] = {
    "at_least": "none",
    "at_most": "none",
    "min_rise": "difference",
    "max_rise": "difference",
    "max_drop": "difference",
    "min_ratio": "ratio",
    "max_ratio": "ratio",
}
RATES: dict[str, tuple[Group, ...]] = {
    "refusal": ("harmful",),
    "over_refusal": ("lookalike", "general"),
    "corrected_refusal": ("harmful",),
    "corrected_over_refusal": ("lookalike", "general"),
}
"""Refusal metric -> the groups of prompts it can be about, the default first."""
SHARES = ("incoherent", "empty", "truncated", "unscored", "failed")
ABILITY = "ability"
TRAININGS = ("training_seconds", "training_peak_memory_bytes")
TIMED = (
    "prefill_tokens_per_second",
    "decode_tokens_per_second",
    "time_to_first_token_seconds",
    "inter_token_latency_seconds",
    "generate_seconds",
)
"""Measured by `performance.throughput` and `performance.precision`, once for each of their points."""
STEPS = ("training_step_seconds", "training_tokens_per_second", "training_loss")
"""Measured by `performance.precision` with training_steps."""
COUNTED_WORK = ("flop_per_second", "bytes_per_second", "flop_per_byte")
PEAKS = (
    "peak_process_rss_bytes",
    "peak_torch_allocated_bytes",
    "peak_torch_reserved_bytes",
    "peak_nvml_process_bytes",
    "peak_nvml_device_bytes",
)
OTHERS = (
    "decode_tokens_per_second_per_gib",
    "warmup_seconds",
    "load_seconds",
    "energy_joules_per_1000_tokens",
    "mean_power_watts",
    "idle_power_watts",
    "training_flop_per_second",
    "training_flop_per_byte",
    "first_answer_seconds",
    "stream_gap_seconds",
    "served_tokens_per_second",
    "copy_bytes_per_second",
    "matmul_flop_per_second",
    "adapter_training_step_seconds",
    "adapter_training_step_tokens",
    *(f"{phase}_{unit}" for phase in ("prefill", "decode") for unit in COUNTED_WORK),
    *(f"{prefix}_{name}" for prefix in ("loading", "adapter_training") for name in PEAKS),
)
"""Further measurements, made only on some machines or for some models."""
MEASUREMENTS = (*TIMED, *STEPS, *PEAKS, *OTHERS)
SINGLE = tuple(name for name in MEASUREMENTS if "_peak_" in f"_{name}")
"""Measurements of one value, which have no interval."""
METRICS = (*RATES, *SHARES, ABILITY, *TRAININGS, *MEASUREMENTS)

HOW_IT_WAS_RUN = frozenset({"study", "warmup", "repeats", "training_steps", "roofline"})
"""Conditions that say how a job was run and not what a figure means: two figures may differ in them."""


def limits_of(gate: Gate) -> list[str]:
    """Names of the limits that the gate gives; a valid gate has one."""
    return [name for name in LIMITS if getattr(gate, name) is not None]


def limit_of(gate: Gate) -> tuple[str, float, bool]:
    """The limit's name, what the judged figure is held against, and whether the figure must be that or more.

    A drop is a negative difference: `max_drop: 0.02` asks for a difference of -0.02 or more.
    """
    name = limits_of(gate)[0]
    number: float = getattr(gate, name)
    return name, -number if name == "max_drop" else number, name not in ("at_most", "max_rise", "max_ratio")


def comparison_of(gate: Gate) -> Comparison:
    """What the gate holds the model against: nothing but the limit, or another model or run."""
    return LIMITS[limits_of(gate)[0]]


def groups_of(gate: Gate) -> tuple[Group, ...]:
    """The groups of prompts that the gate is about."""
    if gate.group is not None:
        return (gate.group,)
    return RATES[gate.metric][:1] if gate.metric in RATES else ("harmful", "lookalike", "general")


def fitting(measured: Sequence[Mapping[str, Scalar]], wanted: Mapping[str, Scalar]) -> list[int]:
    """Positions of those measured under the wanted conditions.

    The precision study repeats what the throughput study measures, so it counts only where it is asked for by
    `study`, or where nothing else fits.
    """
    found = [
        number
        for number, conditions in enumerate(measured)
        if all(key in conditions and conditions[key] == value for key, value in wanted.items())
    ]
    if "study" in wanted:
        return found
    return [number for number in found if measured[number].get("study") != "precision"] or found


def varying(measured: Sequence[Mapping[str, Scalar]]) -> dict[str, list[Scalar]]:
    """Conditions that are not the same everywhere, with the values they have, in order."""
    keys = dict.fromkeys(key for conditions in measured for key in conditions)
    values = {key: list(dict.fromkeys(conditions.get(key) for conditions in measured)) for key in keys}
    return {key: found for key, found in values.items() if len(found) > 1}


def conditions_text(conditions: Mapping[str, Scalar]) -> str:
    """Conditions as a gate would give them: 'batch_size: 8, dtype: float32'."""
    return ", ".join(f"{key}: {value}" for key, value in conditions.items())
