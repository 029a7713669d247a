"""GPUs by name, with the memory that torch can have of them."""

from __future__ import annotations

from dataclasses import dataclass

from harness.environment import describe_environment
from harness.errors import NotAvailable
from harness.suite_yaml import nearest

GIB = 1 << 30
DRIVER_SHARE = 0.98
"""What torch can have of the memory that the driver names, on GPUs that are not in the table."""


@dataclass(frozen=True)
class Gpu:
    """A GPU. `usable_bytes` is what torch names as its total; `bfloat16` is whether it computes in it."""

    name: str
    usable_bytes: int
    bfloat16: bool = True


def _gpu(name: str, gibibytes: float, *, bfloat16: bool = True) -> Gpu:
    return Gpu(name, round(gibibytes * GIB), bfloat16)


GPUS = {
    gpu.name: gpu
    for gpu in (
        _gpu("T4", 14.56, bfloat16=False),
        _gpu("V100-16", 15.77, bfloat16=False),
        _gpu("L4", 22.03),
        _gpu("A10G", 22.06),
        _gpu("RTX3090", 23.57),
        _gpu("RTX4090", 23.52),
        _gpu("RTX5090", 31.36),
        _gpu("A100-40", 39.39),
        _gpu("L40S", 44.39),
        _gpu("A6000", 47.41),
        _gpu("A100-80", 79.14),
        _gpu("H100", 79.11),
        _gpu("H200", 139.81),
    )
}
"""Memory as torch names it, in GiB: less than on the box, for the driver keeps some and error correction takes some."""
LARGEST = max(GPUS.values(), key=lambda gpu: gpu.usable_bytes)


def find_gpu(name: str) -> Gpu:
    """Return the GPU of a name in the table, or with 'auto' this machine's first. NotAvailable if there is none."""
    if name.lower() == "auto":
        return _this_machines()
    for known, gpu in GPUS.items():
        if known.lower() == name.lower():
            return gpu
    close = nearest(name, GPUS)
    meant = f" Did you mean '{close}'?" if close else ""
    raise NotAvailable(f"--gpu: there is no GPU '{name}' in the table.{meant}", f"Known: auto, {', '.join(GPUS)}.")


def _this_machines() -> Gpu:
    gpus = describe_environment().gpus
    if not gpus:
        raise NotAvailable("--gpu auto: this machine has no NVIDIA GPU.", f"Name one: {', '.join(GPUS)}.")
    capability = float(gpus[0].compute_capability)
    return Gpu(gpus[0].name, round(gpus[0].memory_bytes * DRIVER_SHARE), bfloat16=capability >= 8)
