"""What a job needs of a node, and whether a node is the kind of machine that the plan was made for."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from harness.errors import NotAvailable
from harness.plan import PACKAGES_THAT_CHANGE_RESULTS
from harness.records import Environment, GpuInfo, Job, JobKind
from harness.suite import JobNeeds, Suite

TIMINGS: Collection[JobKind] = ("ceilings", "throughput", "train_timing")
"""Jobs whose result is a time: they run after all others, one at a time, on one node that they have to themselves."""
COMPUTING_BACKENDS = ("hf", "unsloth")
"""Backends whose job itself computes on the device; the others read a file or ask a server."""


@dataclass(frozen=True)
class Needs:
    """Share of a node: GPUs, processor cores, bytes of main memory."""

    gpus: float
    cpus: float
    memory_bytes: int


def needs_of(job: Job, suite: Suite, *, gpus_in_cluster: bool) -> Needs:
    """Return what the suite says that the job needs, with the defaults filled in."""
    general = JobNeeds.model_validate(suite.resources.model_dump(include=set(JobNeeds.model_fields)))
    special = suite.resources.by_model.get(job.model, JobNeeds()).model_dump(exclude_unset=True)
    needs = general.model_copy(update=special)
    gpus = needs.gpus
    model = suite.models[job.model]
    if job.kind in ("train", "train_timing"):
        model = model.for_training()
    if model.backend not in COMPUTING_BACKENDS:
        gpus = 0
    elif gpus is None:
        gpus = 1 if model.device == "cuda" or model.device == "auto" and gpus_in_cluster else 0
    if job.kind in TIMINGS:
        gpus = math.ceil(gpus)
    return Needs(gpus, needs.cpus, int((needs.memory_gib or 0) * 2**30))


def wants_gpus(suite: Suite) -> bool:
    """Say whether any job would take a GPU where there is one."""
    kinds: tuple[JobKind, ...] = ("generate", "train")
    jobs = [Job(id=name, kind=kind, model=name) for name in suite.models for kind in kinds]
    return any(needs_of(job, suite, gpus_in_cluster=True).gpus > 0 for job in jobs)


def gpus_of_plan(surveyed: Sequence[tuple[str, GpuInfo]], wanted: str | None) -> tuple[GpuInfo, ...]:
    """Return the GPU that jobs are planned for, of those found on nodes (node, GPU).

    NotAvailable where the nodes' GPUs differ and the suite does not say which to use, or says one that is not there.
    """
    names = sorted({gpu.name for _, gpu in surveyed})
    if wanted is None and len(names) > 1:
        raise NotAvailable(
            f"The cluster's GPUs differ ({', '.join(names)}), and results of different GPUs are not put into one run.",
            f"Say which to use in the suite: resources: {{gpu: {names[0]}}}.",
        )
    chosen = [gpu for _, gpu in surveyed if wanted in (None, gpu.name)]
    if surveyed and not chosen:
        raise NotAvailable(f"No node of the cluster has a GPU named '{wanted}'; there are {', '.join(names)}.")
    return tuple(chosen[:1])


def differences(planned: Environment, here: Environment, *, code: tuple[str, str], timing: bool) -> list[str]:
    """Say in what a node (`here`, with the GPUs that the job may use) is not what the plan was made for.

    These are the things that go into a job's identity, and for a timing the processor. `code` is the hash of the
    harness's own code there and here.
    """
    found = []
    if code[0] != code[1]:
        found.append("another version of the harness")
    for name in (*PACKAGES_THAT_CHANGE_RESULTS, "lm_eval"):
        if planned.packages.get(name) != here.packages.get(name):
            found.append(f"{name} {here.packages.get(name, 'missing')} for {planned.packages.get(name, 'none')}")
    if here.gpus and here.gpus[0].name not in {gpu.name for gpu in planned.gpus}:
        wanted = planned.gpus[0].name if planned.gpus else "no GPU"
        found.append(f"GPU {here.gpus[0].name} for {wanted}")
    if timing and not here.gpus and planned.cpu != here.cpu:
        found.append(f"processor {here.cpu} for {planned.cpu}")
    return found
