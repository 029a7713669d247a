"""Which jobs the `performance` section of a suite asks for, in the order they run. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from harness.records import JobKind, Prompt, Scalar
from harness.suite import Dtype, Performance, Precision, Suite, Throughput


@dataclass(frozen=True)
class TimingJob:
    """One job to be; `content` is what its identity depends on besides its parameters, `prompts` what it asks."""

    kind: JobKind
    model: str
    parameters: dict[str, Scalar]
    content: object = None
    prompts: tuple[Prompt, ...] = ()


def timing_jobs(suite: Suite, prompts: Sequence[Prompt]) -> list[TimingJob]:
    """Lay out ceilings, throughput and precision jobs; a throughput job measures all points of one model."""
    performance = suite.performance
    # Counting work costs nothing, but its figures are of use only beside the ceilings.
    roofline: dict[str, Scalar] = {"roofline": True} if performance.roofline else {}
    jobs = _ceilings(suite, performance) if performance.roofline else []
    if performance.throughput:
        jobs += _throughput(suite, performance.throughput, roofline)
    if performance.precision:
        jobs += _precision(suite, performance.precision, roofline, prompts)
    return jobs


def _ceilings(suite: Suite, performance: Performance) -> list[TimingJob]:
    """One job for the machine, in the precisions that are timed."""
    timed = _timed_models(suite, performance.throughput) if performance.throughput else []
    dtypes = {suite.models[name].dtype for name in timed}
    if performance.precision:
        timed.append(performance.precision.model)
        dtypes |= {point.dtype for point in performance.precision.grid("none")}
    ordered = ", ".join(dtype for dtype in get_args(Dtype) if dtype in dtypes)
    return [TimingJob("ceilings", timed[0], {"study": "ceilings", "dtypes": ordered})]


def _timed_models(suite: Suite, throughput: Throughput) -> list[str]:
    return [name for name in throughput.models or suite.models if suite.models[name].backend != "scripted"]


def _throughput(suite: Suite, throughput: Throughput, roofline: dict[str, Scalar]) -> list[TimingJob]:
    fixed: dict[str, Scalar] = {"study": "throughput", "warmup": throughput.warmup, "repeats": throughput.repeats}
    return [
        TimingJob("throughput", name, {**fixed, **engine, **roofline}, content=throughput.grid())
        for name in _timed_models(suite, throughput)
        for engine in _engines(suite, name, throughput)
    ]


def _engines(suite: Suite, name: str, throughput: Throughput) -> list[dict[str, Scalar]]:
    """Return the parameter that names each engine; a served model is timed once, with its server's."""
    if suite.models[name].backend == "openai_http":
        return [{}]
    return [{"engine": engine} for engine in throughput.engines]


def _precision(
    suite: Suite, precision: Precision, roofline: dict[str, Scalar], prompts: Sequence[Prompt]
) -> list[TimingJob]:
    lists = {"model", "dtypes", "quantizations", "points", "flips"}
    shared: dict[str, Scalar] = {"study": "precision", **precision.model_dump(exclude=lists), **roofline}
    kinds: list[JobKind] = ["throughput", "train_timing"] if precision.training_steps else ["throughput"]
    asked = evenly_spread(prompts, precision.flips)
    jobs = []
    for number, point in enumerate(precision.grid(suite.models[precision.model].quantization)):
        here: dict[str, Scalar] = {"dtype": point.dtype, "quantization": point.quantization}
        jobs += [TimingJob(kind, precision.model, {**shared, **here}) for kind in kinds]
        if asked:
            # The reference answers twice, to show what changes without a change of precision.
            times: dict[str, Scalar] = {"study": "precision", "times": 2 if number == 0 else 1}
            parameters = {**times, "batch_size": precision.batch_size, **here}
            jobs.append(TimingJob("precision_answers", precision.model, parameters, prompts=asked))
    return jobs


def evenly_spread(prompts: Sequence[Prompt], count: int) -> tuple[Prompt, ...]:
    """Return at most `count` prompts at even distances, so that every file and category has its share."""
    count = min(count, len(prompts))
    return tuple(prompts[index * len(prompts) // count] for index in range(count))
