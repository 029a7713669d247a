"""Runs one job in a process of its own and hands on what it says.

On a CPU the process is forked from a server that has imported torch and transformers but loaded no model, which saves
their import (several seconds) per job; CUDA does not survive a fork, so there every process starts from nothing.
Either way a job's memory and its patched libraries are gone when it ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Generator, Iterable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from harness.errors import JobFailed
from harness.orders import Failed, Finished, Message, WorkOrder, message_adapter
from harness.records import GpuInfo
from harness.suite import Model

PRELOADED = ("torch", "transformers.models.auto.modeling_auto", "transformers.generation.utils", "peft")
SECONDS_TO_EXIT = 30
SECONDS_BETWEEN_LOOKS = 1
SHORT_SPIN = "50000"
"""Value of GOMP_SPINCOUNT for the jobs: how long their threads spin while they wait for each other before they sleep.
With the default, generation and training were 5 to 10 times slower as soon as anything else ran on a 2-core machine
(docs/log.md)."""
TRACKER_WARNING = "ignore:resource_tracker:UserWarning"
LONGEST_TEMPORARY_FOLDER = 70
"""A socket's whole path may have 107 bytes, and multiprocessing adds up to 32 to the folder's."""


def can_fork(gpus: Sequence[GpuInfo], models: Iterable[Model]) -> bool:
    """Say whether jobs may be forked from a process that has imported torch, and gain by it: not where a GPU is.

    Nor where the folder for temporary files has a long name: the server that forks listens on a socket in it.
    """
    roomy = len(tempfile.gettempdir()) <= LONGEST_TEMPORARY_FOLDER
    return roomy and not gpus and any(model.backend == "hf" for model in models)


def run_in_process(order: WorkOrder, *, preload: bool) -> Generator[Message]:
    """Yield the job's messages as they come. JobFailed if its process dies without a last word.

    The process is killed, with everything it started, when the iterator is closed before its end.
    """
    with contextlib.closing(run_in_batches(order, preload=preload, seconds=0)) as batches:
        for batch in batches:
            yield from batch


def run_in_batches(order: WorkOrder, *, preload: bool, seconds: float) -> Generator[list[Message]]:
    """Do as `run_in_process` does, but yield together what comes within `seconds` of a message."""
    os.environ.setdefault("GOMP_SPINCOUNT", SHORT_SPIN)  # the job inherits it and reads it when it loads torch
    _quieten_tracker()
    context: multiprocessing.context.SpawnContext | multiprocessing.context.ForkServerContext
    if preload:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
    else:
        context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(order.model_dump_json(), sending), name=order.job.id)
    process.start()
    sending.close()
    try:
        ended = False
        while not ended and _has_more(receiving, process) and (batch := _receive(receiving, seconds)):
            ended = isinstance(batch[-1], Failed | Finished)
            yield batch
        process.join(SECONDS_TO_EXIT)  # no longer: a library's thread or child may keep it for ever
        if not ended:
            raise JobFailed(
                f"Job {order.job.id} ended without finishing ({_describe_exit(process.exitcode)}).",
                f"Its output is in {order.log_file}. What was finished is kept; the same command goes on.",
            )
    finally:
        receiving.close()
        _kill_group(process.pid)
        process.join(SECONDS_TO_EXIT)


def _quieten_tracker() -> None:
    """Keep multiprocessing's tracker from warning of the semaphores of a killed job, which it frees.

    The tracker is a process that starts with the first job and inherits this.
    """
    given = os.environ.get("PYTHONWARNINGS", "")
    if TRACKER_WARNING not in given:
        os.environ["PYTHONWARNINGS"] = f"{given},{TRACKER_WARNING}".removeprefix(",")


def _has_more(receiving: Connection, process: BaseProcess) -> bool:
    """Wait until there is something to receive, be it the end of the pipe. False where the job's process is dead.

    The pipe of a killed job does not end as long as a process that it has forked lives on.
    """
    while not receiving.poll(SECONDS_BETWEEN_LOOKS):
        if not process.is_alive() and not receiving.poll():
            return False
    return True


def _receive(receiving: Connection, seconds: float) -> list[Message]:
    """Wait for a message and take along what comes within `seconds` of it. Nothing at the end of the pipe."""
    messages: list[Message] = []
    with contextlib.suppress(EOFError):
        messages.append(message_adapter.validate_json(receiving.recv_bytes()))
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and receiving.poll(left):
            messages.append(message_adapter.validate_json(receiving.recv_bytes()))
    return messages


def _child(order_json: str, sending: Connection) -> None:
    """Body of the job's process: its own group, its output in the log, dead as soon as the parent is."""
    os.setpgid(0, 0)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    order = WorkOrder.model_validate_json(order_json)
    _redirect_output(Path(order.log_file))
    from harness.worker import work

    work(order, lambda message: sending.send_bytes(message.model_dump_json().encode()))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.killpg(0, signal.SIGKILL)


def _redirect_output(log_file: Path) -> None:
    log_file.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _kill_group(group: int | None) -> None:
    if group is not None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


def _describe_exit(code: int | None) -> str:
    if code is None:
        return "it did not exit"
    if code < 0:
        killed = signal.Signals(-code).name
        return f"killed by {killed}{', perhaps for want of memory' if killed == 'SIGKILL' else ''}"
    return f"exit status {code}"
