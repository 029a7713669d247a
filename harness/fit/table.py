"""`harness fit` on the screen: a table in GiB, and what to change where something does not fit."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from harness.fit.advice import Change, changes, until_it_fits
from harness.fit.gpus import GIB, GPUS, Gpu
from harness.fit.jobs import FitJob, SuiteJobs
from harness.fit.memory import CUBLAS_WORKSPACE, Parts, predict

COLUMNS = ("weights", "LoRA", "activations", "logits, work", "KV cache", "overhead", "total")


def show(console: Console, found: SuiteJobs, gpu: Gpu | None) -> bool:
    """Print the table and the advice. Return whether every job fits (without a GPU: on the largest known)."""
    limit = gpu or max(GPUS.values(), key=lambda one: one.usable_bytes)
    title = f"Peak GPU memory in GiB, predicted for {gpu.name} ({gpu.usable_bytes / GIB:.1f})" if gpu else None
    table = Table(title=title or "Peak GPU memory in GiB, predicted", title_justify="left")
    table.add_column("job")
    for name in COLUMNS:
        table.add_column(name, justify="right")
    table.add_column("fits" if gpu else "fits on")
    for job in found.jobs:
        parts = predict(job.configuration)
        table.add_row(job.name, *_cells(parts), _verdict(parts, gpu))
    if found.jobs:
        console.print(table)
    for job in found.jobs:
        if job.notes:
            console.print(f"{job.name}: {'; '.join(job.notes)}.", highlight=False, markup=False)
    for sentence in found.left_out:
        console.print(sentence, highlight=False, markup=False)
    if gpu and not gpu.bfloat16 and any(job.configuration.dtype == "bfloat16" for job in found.jobs):
        console.print(f"{gpu.name} does not compute in bfloat16: use dtype float16.", highlight=False, markup=False)
    misfits = [job for job in found.jobs if predict(job.configuration).process > limit.usable_bytes]
    for job in misfits:
        _advise(console, job, limit)
    return not misfits


def _cells(parts: Parts) -> list[str]:
    lora = parts.adapter + parts.gradients + parts.optimizer
    overhead = parts.fragmentation + parts.context + CUBLAS_WORKSPACE
    figures = (parts.weights, lora, parts.activations, parts.working, parts.cache, overhead, parts.process)
    return [f"{figure / GIB:.2f}" if figure else "" for figure in figures]


def _verdict(parts: Parts, gpu: Gpu | None) -> str:
    if gpu is None:
        fitting = [one for one in GPUS.values() if one.usable_bytes >= parts.process]
        return min(fitting, key=lambda one: one.usable_bytes).name if fitting else "none of them"
    headroom = (gpu.usable_bytes - parts.process) / GIB
    return f"yes, {headroom:.2f} left" if headroom >= 0 else f"NO, {-headroom:.2f} short"


def _advise(console: Console, job: FitJob, gpu: Gpu) -> None:
    def say(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    options = changes(job)
    say(f"\n{job.name} does not fit on {gpu.name}." + (" Each of these alone saves:" if options else ""))
    for change in options:
        fits = " and makes it fit" if predict(change.result).process <= gpu.usable_bytes else ""
        say(f"  {change.saves / GIB:6.2f} GiB{fits}: {_words(change)}")
    together = until_it_fits(job, gpu.usable_bytes)
    if together is None:
        say("  No change of these keys makes it fit: take a smaller model or a larger GPU.")
    elif len(together) > 1:
        say("  Together these make it fit: " + " ".join(f"-o {one}" for change in together for one in change.overrides))


def _words(change: Change) -> str:
    overrides = " ".join(f"-o {one}" for one in change.overrides)
    return overrides + (f" ({change.remark})" if change.remark else "")
