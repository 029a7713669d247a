"""What to change where a job does not fit: only changes that help, each with its saving by the same prediction."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from harness.fit.jobs import FitJob
from harness.fit.memory import Configuration, predict

WORTH_NAMING = 0.01
"""A change is named if it saves at least this share of the job's memory."""
SMALLEST_RANK = 8
SHORTEST_ROW = 256
FEWEST_NEW_TOKENS = 32


@dataclass(frozen=True)
class Change:
    """New values of the suite, as they are given to -o, and the bytes that they save in one job."""

    overrides: tuple[str, ...]
    remark: str
    saves: int
    result: Configuration


def changes(job: FitJob) -> list[Change]:
    """Return every single change that helps, the most helpful first."""
    return sorted(_helpful(job), key=lambda change: -change.saves)


def until_it_fits(job: FitJob, usable_bytes: int) -> list[Change] | None:
    """Return changes that together make the job fit, taken one after the other; None where none of them do.

    What costs no quality comes first (checkpointing, optimizer, batch), then 4-bit weights, then shorter rows.
    """
    taken: list[Change] = []
    current = job
    while predict(current.configuration).process > usable_bytes:
        option = next(_helpful(current), None)
        if option is None:
            return None
        taken.append(option)
        current = replace(job, configuration=option.result)
    return _merged(taken)


def _helpful(job: FitJob) -> Iterator[Change]:
    """Yield the changes that help, what costs least first."""
    before = predict(job.configuration).process
    for overrides, remark, result in _candidates(job):
        saves = before - predict(result).process
        if saves >= WORTH_NAMING * before:
            yield Change(overrides, remark, saves, result)


def _merged(taken: list[Change]) -> list[Change]:
    """Return one change per key: a batch halved twice is named by where it ended."""
    last: dict[str, Change] = {}
    for change in taken:
        key = change.overrides[0].partition("=")[0]
        saves = change.saves + (last[key].saves if key in last else 0)
        last[key] = replace(change, saves=saves)
    return list(last.values())


def _candidates(job: FitJob) -> Iterator[tuple[tuple[str, ...], str, Configuration]]:
    """Yield overrides, a remark and the changed configuration, what costs least first."""
    now, keys = job.configuration, job.keys
    if "checkpointing" in keys and now.checkpointing == "off":
        value = "unsloth" if now.backend == "unsloth" else "true"
        result = replace(now, checkpointing="unsloth" if now.backend == "unsloth" else "on")
        yield (f"{keys['checkpointing']}={value}",), "a slower step", result
    if "optimizer" in keys and now.optimizer.startswith("adamw_torch"):
        yield (f"{keys['optimizer']}=adamw_8bit",), "", replace(now, optimizer="adamw_8bit")
    if "batch" in keys and now.batch_size > 1:
        yield _smaller_batch(job)
    if "quantization" in keys and now.quantization != "4bit":
        value = "true" if now.phase == "train" else "4bit"
        yield (f"{keys['quantization']}={value}",), "some quality and speed", replace(now, quantization="4bit")
    if "rows" in keys and now.row_tokens >= 2 * SHORTEST_ROW:
        half = now.row_tokens // 2
        yield (f"{keys['rows']}={half}",), "longer rows are cut", replace(now, row_tokens=half)
    if "new_tokens" in keys and now.new_tokens >= 2 * FEWEST_NEW_TOKENS:
        half = now.new_tokens // 2
        yield (f"{keys['new_tokens']}={half}",), "longer answers are cut", replace(now, new_tokens=half)
    if "rank" in keys and now.rank >= 2 * SMALLEST_RANK:
        yield (f"{keys['rank']}={now.rank // 2}",), "a smaller adapter", replace(now, rank=now.rank // 2)


def _smaller_batch(job: FitJob) -> tuple[tuple[str, ...], str, Configuration]:
    now, key = job.configuration, job.keys["batch"]
    half = now.batch_size // 2
    if key.endswith("per_device_train_batch_size"):
        remark = "raise gradient_accumulation_steps by the same factor"
        return (f"{key}={half}",), remark, replace(now, batch_size=half, accumulates=True)
    value = f"[{half}]" if key.endswith("batch_sizes") else f"{half}"
    return (f"{key}={value}",), "fewer rows at once", replace(now, batch_size=half)
