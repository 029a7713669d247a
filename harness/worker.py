"""The body of a job's process: one order, one workload, messages out. The only place that picks a workload."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable

from harness.errors import HarnessError
from harness.orders import Failed, Finished, Message, WorkOrder

Send = Callable[[Message], None]


def work(order: WorkOrder, send: Send) -> None:
    """Do the job and say how it ended. Every error gets a sentence; the traceback goes to the job's log."""
    quieten_libraries()
    try:
        _workload(order, send)
    except HarnessError as error:
        traceback.print_exc()
        send(Failed(error=type(error).__name__, message=error.message, hint=error.hint))
    except Exception as error:
        traceback.print_exc()
        sentence = f"Job {order.job.id} failed: {type(error).__name__}: {error}"
        send(Failed(error="JobFailed", message=sentence, hint=f"The traceback is in {order.log_file}."))
    else:
        send(Finished())


def _workload(order: WorkOrder, send: Send) -> None:
    match order.job.kind:
        case "generate":
            from harness.workloads.generate import generate

            generate(order, send)
        case "throughput":
            from harness.workloads.throughput import measure_throughput

            measure_throughput(order, send)
        case "train":
            from harness.workloads.train import train

            train(order, send)
        case "train_timing":
            from harness.workloads.train import time_training

            time_training(order, send)


def quieten_libraries() -> None:
    """Keep progress bars and telemetry of the libraries out of the log."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.captureWarnings(True)
