"""Measurements of one job: they share model and conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from harness.backends import OutOfMemory
from harness.errors import NotAvailable, reason_of
from harness.nvml import ForeignUse
from harness.orders import WorkOrder
from harness.records import Event, JobRecord, Measurement, Scalar

MEMORY_METHODS = {
    "process_rss_bytes": "resident set of the job's process, kernel peak (VmHWM)",
    "torch_allocated_bytes": "torch.cuda.max_memory_allocated",
    "torch_reserved_bytes": "torch.cuda.max_memory_reserved",
    "nvml_process_bytes": "NVML memory of the job's process, sampled every 20 ms",
    "nvml_device_bytes": "NVML memory of the whole device, sampled every 20 ms, other processes included",
}
WHOLE_JOB = "from loading to the end"
NOT_CONDITIONS = frozenset({"points", "roofline", "flips", "times"})
"""Parameters that say which work a job does, and nothing about one figure."""


class Series:
    """Makes the measurements of one job; `conditions` are added to the job's own parameters."""

    def __init__(self, order: WorkOrder, conditions: Mapping[str, Scalar]) -> None:
        self._order = order
        parameters = {name: value for name, value in order.job.parameters.items() if name not in NOT_CONDITIONS}
        self._conditions = {"dtype": order.model.dtype, **parameters, **conditions}

    def at(self, conditions: Mapping[str, Scalar]) -> Series:
        """Return a series with further conditions."""
        return Series(self._order, {**self._conditions, **conditions})

    def one(self, name: str, unit: str, phase: str, values: tuple[float, ...], method: str) -> Measurement:
        """Make one measurement from its raw values."""
        return Measurement(
            job_id=self._order.job.id,
            model=self._order.job.model,
            name=name,
            unit=unit,
            phase=phase,
            values=values,
            conditions=self._conditions,
            method=method,
        )

    def memory(
        self, peaks: Mapping[str, int], phase: str, span: str = WHOLE_JOB, prefix: str = "peak"
    ) -> list[Measurement]:
        """Make one measurement per memory figure, each named for what it is; `span` says over what time."""
        return [
            self.one(f"{prefix}_{name}", "bytes", phase, (float(value),), f"{MEMORY_METHODS[name]}, {span}")
            for name, value in peaks.items()
        ]

    def event(self, code: str, message: str, data: Mapping[str, Scalar], level: str = "info") -> Event:
        """Make an event of this job."""
        given = {"job_id": self._order.job.id, "level": level, "code": code, "message": message, "data": dict(data)}
        return Event.model_validate(given)


def marked(records: Sequence[JobRecord], series: Series, use: ForeignUse) -> tuple[JobRecord, ...]:
    """Return the records; if others used the GPU, with a warning, and every figure marked as not comparable."""
    if not use.found:
        return tuple(records)
    seen = f"{use.before} before and {use.during} during it, {use.memory_bytes / 2**30:.1f} GiB"
    hidden = f"; {use.unexplained_bytes / 2**30:.1f} GiB were in use before it by processes that cannot be seen here"
    message = f"Other processes used the GPU while this job measured: {seen}{hidden if use.unexplained_bytes else ''}."
    data = {
        "before": use.before,
        "during": use.during,
        "memory_bytes": use.memory_bytes,
        "unexplained_bytes": use.unexplained_bytes,
    }
    reason = "other processes used the GPU"
    return (
        *(
            record.model_copy(update={"not_comparable": reason}) if isinstance(record, Measurement) else record
            for record in records
        ),
        series.event("foreign_gpu_processes", message, data, level="warning"),
    )


@contextmanager
def memory_is_a_result(order: WorkOrder) -> Iterator[None]:
    """In the precision study, a precision that does not fit into memory is one that the machine cannot do."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, OutOfMemory) as error:
        if order.job.parameters.get("study") != "precision":
            raise
        raise NotAvailable(f"it does not fit into memory: {reason_of(error)}") from error
