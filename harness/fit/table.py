"""`harness fit` on the screen: a table in GiB, and what to change where something does not fit."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from harness.fit.advice import Change, changes, until_it_fits
from harness.fit.gpus import GIB, GPUS, LARGEST, Gpu
from harness.fit.jobs import FitJob, SuiteJobs
from harness.fit.memory import CUBLAS_WORKSPACE, Parts, predict

COLUMNS = ("weights", "LoRA", "activa-\ntions", "logits,\nwork", "KV\ncache", "over-\nhead", "total")


def show(console: Console, found: SuiteJobs, gpu: Gpu | None) -> bool:
    """Print the table and the advice. Return whether a run can be made (without a GPU: on the largest known).

    That is where every job fits but those that a run would leave out.
    """
    limit = gpu or LARGEST
    if found.jobs:
        console.print(_table(found, gpu))
    for job in found.jobs:
        if job.notes:
            _say(console, f"{job.name}: {'; '.join(job.notes)}.")
    for sentence in found.left_out:
        _say(console, sentence)
    if gpu and not gpu.bfloat16 and any(job.configuration.dtype == "bfloat16" for job in found.jobs):
        _say(console, f"{gpu.name} does not compute in bfloat16: use dtype float16.")
    misfits = [job for job in found.jobs if predict(job.configuration).process > limit.usable_bytes]
    for job in misfits:
        _advise(console, job, limit)
    return all(bool(job.optional) for job in misfits)


def _table(found: SuiteJobs, gpu: Gpu | None) -> Table:
    """Only the jobs' names may be broken: the figures fit beside them in a terminal of 80 columns."""
    title = f"Peak GPU memory in GiB, predicted for {gpu.name} ({gpu.usable_bytes / GIB:.1f})" if gpu else None
    title = title or "Peak GPU memory in GiB, predicted"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=0)
    table.add_column("job")
    for name in (*COLUMNS, *(("left",) if gpu else ())):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("fits" if gpu else "fits on", no_wrap=True)
    for job in found.jobs:
        parts = predict(job.configuration)
        table.add_row(job.name, *_cells(parts), *_verdict(job, parts, gpu))
    return table


def _cells(parts: Parts) -> list[str]:
    lora = parts.adapter + parts.gradients + parts.optimizer
    overhead = parts.fragmentation + parts.context + CUBLAS_WORKSPACE
    figures = (parts.weights, lora, parts.activations, parts.working, parts.cache, overhead, parts.process)
    return [f"{figure / GIB:.2f}" if figure else "" for figure in figures]


def _verdict(job: FitJob, parts: Parts, gpu: Gpu | None) -> tuple[str, ...]:
    if gpu is None:
        fitting = [one for one in GPUS.values() if one.usable_bytes >= parts.process]
        return (min(fitting, key=lambda one: one.usable_bytes).name if fitting else "none of them",)
    left = gpu.usable_bytes - parts.process
    return f"{left / GIB:.2f}", "yes" if left >= 0 else "left out" if job.optional else "NO"


def _advise(console: Console, job: FitJob, gpu: Gpu) -> None:
    options = changes(job)
    outcome = f": a run would leave out {job.optional} and go on." if job.optional else "."
    saving = " Each of these alone saves:" if options else ""
    _say(console, f"\n{job.name} does not fit on {gpu.name}{outcome}{saving}")
    for change in options:
        fits = " and makes it fit" if predict(change.result).process <= gpu.usable_bytes else ""
        _say(console, f"  {change.saves / GIB:6.2f} GiB{fits}: {_words(change)}")
    together = until_it_fits(job, gpu.usable_bytes)
    if together is None:
        _say(console, "  No change of these keys makes it fit: take a smaller model or a larger GPU.")
    elif len(together) > 1:
        overrides = " ".join(f"-o {one}" for change in together for one in change.overrides)
        _say(console, f"  Together these make it fit: {overrides}")


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _words(change: Change) -> str:
    overrides = " ".join(f"-o {one}" for one in change.overrides)
    return overrides + (f" ({change.remark})" if change.remark else "")
