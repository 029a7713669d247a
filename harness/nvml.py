"""What the NVIDIA driver's management library (NVML) says about the GPU of this process, and nothing on other machines.

NVML counts the whole device: memory, energy and processes of everybody who uses it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import psutil

POWER_SAMPLING_SECONDS = 0.05
WATCH_SECONDS = 0.5
UNEXPLAINED_BYTES = 2 * 1024**3
"""Memory in use on an idle GPU above which somebody must be using it; the driver itself reserves well below this."""


@dataclass(frozen=True)
class GpuProcess:
    """A process that computes on the GPU, and its memory there (0 where the driver does not say)."""

    pid: int
    memory_bytes: int


class Gpu:
    """One GPU. NVML stays open as long as this process lives: opening it takes longer than any reading."""

    def __init__(self, uuid: str) -> None:
        import pynvml

        self._nvml: Any = pynvml
        self._nvml.nvmlInit()
        self._handle = self._nvml.nvmlDeviceGetHandleByUUID(uuid)

    @classmethod
    def of_torch(cls) -> Gpu:
        """Return the GPU that torch computes on."""
        import torch

        return cls(f"GPU-{torch.cuda.get_device_properties(0).uuid}")

    def used_bytes(self) -> int:
        """Return the memory in use on the whole device."""
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)

    def processes(self) -> tuple[GpuProcess, ...]:
        """Return all processes that compute on the GPU, as far as the driver lets this one see them."""
        found = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        return tuple(GpuProcess(process.pid, process.usedGpuMemory or 0) for process in found)

    def energy_joules(self) -> float | None:
        """Return the energy used since the driver was loaded; None where the GPU has no counter (before Volta)."""
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1000
        except self._nvml.NVMLError:
            return None

    def power_watts(self) -> float | None:
        """Return the power drawn now (on recent GPUs: the mean of the last second); None where it is not known."""
        try:
            return float(self._nvml.nvmlDeviceGetPowerUsage(self._handle)) / 1000
        except self._nvml.NVMLError:
            return None


def gpu_of(device: str) -> Gpu | None:
    """Return the GPU that torch's `device` ('cuda' or 'cpu') is; None on a CPU or where NVML cannot be had."""
    if device != "cuda":
        return None
    import pynvml

    try:
        return Gpu.of_torch()
    except pynvml.NVMLError:
        return None


class EnergyMeter:
    """Energy between entering and leaving, in `joules` over `seconds`; `method` says how, or why there is none."""

    def __init__(self, gpu: Gpu | None) -> None:
        self.joules: float | None = None
        self.seconds = 0.0
        self.method = "no NVIDIA GPU, and processors have no counter that a user may read"
        self._gpu = gpu
        self._started = 0.0
        self._before: float | None = None
        self._sampler: _PowerSampler | None = None

    def __enter__(self) -> EnergyMeter:
        if self._gpu is not None:
            self._before = self._gpu.energy_joules()
            if self._before is None and self._gpu.power_watts() is not None:
                self._sampler = _PowerSampler(self._gpu)
                self._sampler.start()
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._started
        if self._gpu is None:
            return
        if self._before is not None:
            self.joules = (self._gpu.energy_joules() or 0.0) - self._before
            self.method = "NVML energy counter of the whole GPU"
        elif self._sampler is not None:
            readings = self._sampler.stop()
            mean = integral(readings) / (readings[-1][0] - readings[0][0])
            self.joules = mean * self.seconds
            self.method = f"NVML power of the whole GPU, read every {POWER_SAMPLING_SECONDS * 1000:.0f} ms, integrated"
        else:
            self.method = "this GPU tells NVML neither its energy nor its power"


def integral(readings: Sequence[tuple[float, float]]) -> float:
    """Integrate (seconds, watts) by the trapezoidal rule, in joules; readings are in the order of their time."""
    return sum(
        (later - earlier) * (before + after) / 2
        for (earlier, before), (later, after) in zip(readings, readings[1:], strict=False)
    )


class _PowerSampler:
    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self._readings: list[tuple[float, float]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> list[tuple[float, float]]:
        self._stopping.set()
        self._thread.join()
        self._read()
        return self._readings

    def _sample(self) -> None:
        while True:
            self._read()
            if self._stopping.wait(POWER_SAMPLING_SECONDS):
                return

    def _read(self) -> None:
        self._readings.append((time.perf_counter(), self._gpu.power_watts() or 0.0))


def idle_power_watts(gpu: Gpu, seconds: float = 1.0) -> float | None:
    """Return the mean power over some idle seconds; the caller sees to it that this process gives no work."""
    with EnergyMeter(gpu) as meter:
        time.sleep(seconds)
    return None if meter.joules is None else meter.joules / meter.seconds


@dataclass(frozen=True)
class ForeignUse:
    """Others on the GPU: how many processes were seen before and during the job, and their largest memory together.

    `unexplained_bytes` is memory in use before the job with no visible owner, as in a container that hides processes.
    """

    before: int
    during: int
    memory_bytes: int
    unexplained_bytes: int

    @property
    def found(self) -> bool:
        """Whether anybody else used the GPU."""
        return bool(self.before or self.during or self.unexplained_bytes)


class ForeignWatch:
    """Looks, before a job touches the GPU and every half second during it, for processes that are not the job's.

    The job's are this one and those it started: vLLM computes in children.
    """

    def __init__(self, gpu: Gpu | None) -> None:
        self._gpu = gpu
        self._before: dict[int, int] = {}
        self._during: dict[int, int] = {}
        self._own = {os.getpid()}
        self._unexplained = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ForeignWatch:
        if self._gpu is not None:
            self._before = {one.pid: one.memory_bytes for one in self._gpu.processes() if one.pid != os.getpid()}
            used = self._gpu.used_bytes()
            self._unexplained = used if not self._before and used > UNEXPLAINED_BYTES else 0
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._gpu is not None:
            self._stopping.set()
            self._thread.join()

    def use(self) -> ForeignUse:
        """Return what was seen up to now."""
        foreign = foreign_processes(self._during, self._before, self._own)
        return ForeignUse(
            before=len(self._before),
            during=len(foreign),
            memory_bytes=sum({**self._before, **foreign}.values()),
            unexplained_bytes=self._unexplained,
        )

    def _watch(self) -> None:
        assert self._gpu is not None
        while not self._stopping.wait(WATCH_SECONDS):
            self._own |= {child.pid for child in psutil.Process().children(recursive=True)}
            for one in self._gpu.processes():
                self._during[one.pid] = max(one.memory_bytes, self._during.get(one.pid, 0))


def foreign_processes(seen: dict[int, int], before: Collection[int], own: Collection[int]) -> dict[int, int]:
    """Return the processes (pid -> bytes) among those seen that are not the job's `own`.

    In a container NVML shows the host's process ids, and the job's are among them under numbers that it does not know:
    then one that was not there before is taken to be the job's, the largest.
    """
    foreign = {pid: size for pid, size in seen.items() if pid not in own}
    new = [pid for pid in foreign if pid not in before]
    if new and not any(pid in own for pid in seen):
        del foreign[max(new, key=lambda pid: foreign[pid])]
    return foreign
