"""Whether a job's device does the precision that the job asks for, told before any job starts."""

from __future__ import annotations

from pathlib import Path

from harness.backends.on_cpu import check_on_cpu
from harness.errors import NotAvailable
from harness.orders import WorkOrder
from harness.workloads.training_settings import Device, resolve

CPU = Device("cpu", bfloat16=True, bitsandbytes=False)


def refused_on_cpu(order: WorkOrder) -> bool:
    """Say whether a CPU would end the job, one of the hf backend, with a NotAvailable. No torch.

    Never so for a precision study or a timed engine, which leave out what cannot be done, nor for an adapter in the
    cache.
    """
    job, training = order.job, order.training
    needs_device = job.kind in ("train", "generate", "lm_eval") or job.parameters.get("engine") == "plain"
    in_cache = order.training_folder is not None and Path(order.training_folder).exists()
    backend = training and training.backend or order.model.backend
    if not needs_device or in_cache or backend != "hf":
        return False
    try:
        if training:
            resolve(training, order.model, CPU)
        else:
            check_on_cpu(order.model)
    except NotAvailable:
        return True
    return False


def check_device(order: WorkOrder) -> None:
    """Look at the machine, and raise the NotAvailable that the job itself would end with."""
    from harness.backends.hf import choose_device
    from harness.workloads.lora_model import describe_device

    if order.training:
        resolve(order.training, order.model, describe_device(order.model))
    else:
        choose_device(order.model)
