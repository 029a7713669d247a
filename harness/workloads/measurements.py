"""Measurements of one job: they share model and conditions."""

from __future__ import annotations

from collections.abc import Mapping

from harness.orders import WorkOrder
from harness.records import Measurement, Scalar

MEMORY_METHODS = {
    "process_rss_bytes": "resident set of the job's process, kernel peak (VmHWM) from loading to the end",
    "torch_allocated_bytes": "torch.cuda.max_memory_allocated from loading to the end",
    "torch_reserved_bytes": "torch.cuda.max_memory_reserved from loading to the end",
    "nvml_process_bytes": "NVML memory of the job's process, sampled every 20 ms",
    "nvml_device_bytes": "NVML memory of the whole device, sampled every 20 ms, other processes included",
}


class Series:
    """Makes the measurements of one job; `conditions` are added to the job's own parameters."""

    def __init__(self, order: WorkOrder, conditions: Mapping[str, Scalar]) -> None:
        self._order = order
        self._conditions = {"dtype": order.model.dtype, **order.job.parameters, **conditions}

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

    def memory(self, peaks: Mapping[str, int], phase: str) -> list[Measurement]:
        """Make one measurement per memory figure, each named for what it is."""
        return [
            self.one(f"peak_{name}", "bytes", phase, (float(value),), MEMORY_METHODS[name])
            for name, value in peaks.items()
        ]
