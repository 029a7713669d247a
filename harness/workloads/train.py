"""The training job: takes the adapter from the cache, or trains it while others that want the same one wait."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.adapter_cache import CachedAdapter, DamagedEntry, entry_lock, lookup
from harness.orders import Message, Progress, Records, WorkOrder
from harness.records import ADAPTER_FROM_CACHE, Event, JobRecord


def train(order: WorkOrder, send: Callable[[Message], None]) -> None:
    """Send the records of the adapter's training, now or when it was made."""
    assert order.training and order.training_folder and order.job.training
    folder = Path(order.training_folder)
    with entry_lock(folder):
        found = lookup(folder)
        if isinstance(found, CachedAdapter):
            message = f"The adapter was found in the cache: {folder.name}."
            event = _event(order, "info", ADAPTER_FROM_CACHE, message, folder=folder.name)
            send(Records(records=(event, *found.records)))
            return
        if isinstance(found, DamagedEntry):
            message = f"The cached adapter was damaged ({found.reason}); it is trained again."
            send(Records(records=(_event(order, "warning", "adapter_damaged", message),)))
        from harness.workloads.train_lora import TrainingWork, train_lora  # slow to import; not needed for a cached one

        work = TrainingWork(
            job_id=order.job.id,
            name=order.job.training,
            training=order.training,
            model=order.model,
            model_place=order.model_place,
            data_place=order.data_place or order.training.data.hub or "",
            adapter_folder=folder,
        )

        def emit(record: JobRecord) -> None:
            send(Records(records=(record,)))

        train_lora(work, emit, lambda done, total: send(Progress(done=done, total=total, unit="steps")))


def _event(order: WorkOrder, level: str, code: str, message: str, **data: str) -> Event:
    given = {"job_id": order.job.id, "level": level, "code": code, "message": message, "data": data}
    return Event.model_validate(given)
