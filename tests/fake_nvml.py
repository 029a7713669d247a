"""An NVML with a GPU whose energy, power, memory and processes are known."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

GIB = 1024**3


class NVMLError(Exception):
    """As pynvml's."""


@dataclass
class FakeNvml:
    """Stands in for the module pynvml. `millijoules` and `milliwatts` are taken one by one, the last for ever."""

    millijoules: list[int] = field(default_factory=list)
    milliwatts: list[int] = field(default_factory=list)
    used: int = GIB // 2
    processes: dict[int, int] = field(default_factory=dict)
    NVMLError: type[Exception] = NVMLError

    def nvmlInit(self) -> None:
        """Nothing to open."""

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetMemoryInfo(self, handle: str) -> Any:
        return SimpleNamespace(used=self.used)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[Any]:
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self.processes.items()]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        return self._next(self.millijoules)

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return self._next(self.milliwatts)

    def _next(self, readings: list[int]) -> int:
        if not readings:
            raise NVMLError("Not Supported")
        return readings.pop(0) if len(readings) > 1 else readings[0]
