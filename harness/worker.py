"""The body of a job's process: one order, one workload, messages out. The only place that picks a workload."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable

from harness.errors import HarnessError, JobFailed, NotAvailable
from harness.orders import Failed, Finished, Message, Records, WorkOrder
from harness.records import PRECISION_LEFT_OUT, Event, Scalar
from harness.workloads.device import check_device

Send = Callable[[Message], None]


def work(order: WorkOrder, send: Send) -> None:
    """Do the job and say how it ended. Every error gets a sentence; the traceback goes to the job's log."""
    quieten_libraries()
    try:
        if order.only == "check_device":
            check_device(order)
        else:
            _do(order, send)
    except HarnessError as error:
        if isinstance(error, NotAvailable) and order.job.parameters.get("study") == "precision":
            send(_precision_left_out(order, error))  # what a machine cannot do is a result of this study
            send(Finished())
        else:
            send(_failed(error))
    except Exception as error:
        sentence = f"Job {order.job.id} failed: {type(error).__name__}: {error}"
        traceback.print_exception(error)
        send(_failed(JobFailed(sentence, f"The traceback is in {order.log_file}.")))
    else:
        send(Finished())


def _failed(error: HarnessError) -> Failed:
    return Failed(error=type(error).__name__, message=error.message, hint=error.hint)


def _precision_left_out(order: WorkOrder, error: NotAvailable) -> Records:
    stored = "" if order.model.quantization == "none" else f" with {order.model.quantization} weights"
    message = f"{order.model.dtype}{stored} was left out of the precision study: {error.message}"
    data: dict[str, Scalar] = {
        "dtype": order.model.dtype,
        "quantization": order.model.quantization,
        "reason": error.message,
    }
    event = Event(job_id=order.job.id, level="info", code=PRECISION_LEFT_OUT, message=message, data=data)
    return Records(records=(event,))


def _do(order: WorkOrder, send: Send) -> None:
    match order.job.kind:
        case "generate":
            from harness.workloads.generate import generate

            generate(order, send)
        case "throughput":
            if order.served:
                from harness.workloads.served_throughput import measure_served_throughput

                measure_served_throughput(order, send)
                return
            from harness.workloads.throughput import measure_throughput

            measure_throughput(order, send)
        case "make_weights":
            from harness.workloads.make_weights import make_weights

            make_weights(order, send)
        case "ceilings":
            from harness.workloads.ceilings import measure_ceilings

            measure_ceilings(order, send)
        case "precision_answers":
            from harness.workloads.precision_answers import answer_in_precision

            answer_in_precision(order, send)
        case "train":
            from harness.workloads.train import train

            train(order, send)
        case "train_timing":
            from harness.workloads.train_timing import time_training

            time_training(order, send)
        case "lm_eval":
            from harness.workloads.lm_eval import measure_ability

            measure_ability(order, send)


def quieten_libraries() -> None:
    """Keep progress bars and telemetry of the libraries out of the log."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    logging.captureWarnings(True)
