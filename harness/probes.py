"""Instruments: memory figures that each say what they are, and device synchronisation for clocks.

On a CPU the figure is the resident set of this process (RSS, Linux VmHWM for its peak). On a CUDA GPU there are four,
which differ by design: what torch allocated, what torch reserved from the driver, what NVML attributes to this process,
and what NVML counts on the whole device (other processes included).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import TracebackType

import psutil

from harness.nvml import Gpu

STATUS_FILE = Path("/proc/self/status")
CLEAR_REFERENCES_FILE = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
SAMPLING_SECONDS = 0.02


def synchronize(device: str) -> None:
    """Wait until a GPU has done all it was given; nothing to do on a CPU."""
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


class PeakMemory:
    """Measures peak memory between entering and leaving. Figures are in bytes, by name, in `peaks` and `before`."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.before: Mapping[str, int] = {}
        self.peaks: Mapping[str, int] = {}
        self._sampler: _Sampler | None = None

    def __enter__(self) -> PeakMemory:
        reset_peaks(self.device)
        self.before = current_memory(self.device)
        self._sampler = _Sampler(self.device)
        self._sampler.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._sampler is not None
        sampled = self._sampler.stop()
        self.peaks = {**sampled, **_own_peaks(self.device)}


def reset_peaks(device: str) -> None:
    """Start the peak counters of kernel and torch afresh."""
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    elif CLEAR_REFERENCES_FILE.exists():
        CLEAR_REFERENCES_FILE.write_text(RESET_PEAK, encoding="ascii")


def current_memory(device: str) -> dict[str, int]:
    """Return the figures as they are now."""
    if device == "cuda":
        import torch

        own = {
            "torch_allocated_bytes": torch.cuda.memory_allocated(),
            "torch_reserved_bytes": torch.cuda.memory_reserved(),
        }
        return {**own, **_nvml_memory()}
    return {"process_rss_bytes": psutil.Process().memory_info().rss}


def _sampled_memory(device: str) -> dict[str, int]:
    """Return the figures whose peak nobody keeps; asking torch for the others would slow what is being timed."""
    return _nvml_memory() if device == "cuda" else current_memory(device)


def _own_peaks(device: str) -> dict[str, int]:
    """Return the peaks that torch or the kernel kept exactly; the rest is sampled."""
    if device == "cuda":
        import torch

        return {
            "torch_allocated_bytes": torch.cuda.max_memory_allocated(),
            "torch_reserved_bytes": torch.cuda.max_memory_reserved(),
        }
    return {"process_rss_bytes": _kernel_peak_rss()} if STATUS_FILE.exists() else {}


def _kernel_peak_rss() -> int:
    for line in STATUS_FILE.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{STATUS_FILE} has no VmHWM line")


def _nvml_memory() -> dict[str, int]:
    gpu = _gpu()
    own = [process.memory_bytes for process in gpu.processes() if process.pid == os.getpid()]
    figures = {"nvml_device_bytes": gpu.used_bytes()}
    return {**figures, "nvml_process_bytes": sum(own)} if own else figures


@lru_cache(maxsize=1)
def _gpu() -> Gpu:
    return Gpu.of_torch()


class _Sampler:
    """Reads the current figures every few hundredths of a second and keeps the largest of each."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._largest: dict[str, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> dict[str, int]:
        self._stopping.set()
        self._thread.join()
        return self._largest

    def _sample(self) -> None:
        while True:
            for name, value in _sampled_memory(self._device).items():
                self._largest[name] = max(value, self._largest.get(name, 0))
            if self._stopping.wait(SAMPLING_SECONDS):
                return
