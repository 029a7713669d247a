"""The machine and the versions a run is made with, read without importing torch."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import psutil

from harness.records import Environment, GpuInfo

REPORTED_PACKAGES = (
    "korean-lora-harness",
    "torch",
    "transformers",
    "tokenizers",
    "peft",
    "trl",
    "datasets",
    "accelerate",
    "safetensors",
    "unsloth",
    "unsloth_zoo",
    "vllm",
    "bitsandbytes",
    "lm_eval",
)


def describe_environment() -> Environment:
    """Read the machine, its GPUs (through NVML) and the installed versions."""
    commit, dirty = _git_state(Path(__file__).parent)
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        cpu=cpu_name(),
        cpu_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        gpus=read_gpus(),
        packages=package_versions(),
        git_commit=commit,
        git_dirty=dirty,
    )


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that can change a result."""
    versions = {}
    for name in REPORTED_PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def read_gpus() -> tuple[GpuInfo, ...]:
    """List the GPUs that NVML shows; none where there is no NVIDIA driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        return tuple(_describe_gpu(index) for index in range(pynvml.nvmlDeviceGetCount()))
    finally:
        pynvml.nvmlShutdown()


def _describe_gpu(index: int) -> GpuInfo:
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    return GpuInfo(
        name=str(pynvml.nvmlDeviceGetName(handle)),
        memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
        driver=str(pynvml.nvmlSystemGetDriverVersion()),
        compute_capability=f"{major}.{minor}",
    )


def cpu_name() -> str:
    """Return the processor's name as the system gives it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Return the commit of the harness's own checkout and whether it has uncommitted changes."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
