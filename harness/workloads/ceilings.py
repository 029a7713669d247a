"""What the machine can do at most, measured here and not taken from a data sheet: the two limits of a roofline.

Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model for Multicore Architectures",
Commun. ACM 52(4), 2009: at most min(peak arithmetic, bandwidth * operations per byte) can be reached. The bandwidth is
that of a copy much larger than any cache, read and write both counted (as in McCalpin's STREAM); the peak is that of a
product of large square matrices in each precision. The best of many runs is the ceiling.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from harness.backends.hf import choose_device
from harness.nvml import ForeignWatch, gpu_of
from harness.orders import Message, Progress, Records, WorkOrder
from harness.probes import synchronize
from harness.records import JobRecord
from harness.workloads.measurements import Series, marked

COPY_BYTES = {"cuda": 4 * 1024**3, "cpu": 256 * 1024**2}
MATRIX_SIZE = {"cuda": 8192, "cpu": 1024}
SHORTEST_RUN_SECONDS = 0.02
PROBE_SECONDS = 0.5
FEWEST_RUNS = 5


def measure_ceilings(order: WorkOrder, send: Callable[[Message], None]) -> None:
    """Measure copy bandwidth, and the arithmetic peak in each of the job's `dtypes` that the machine computes in."""
    # The probe has precisions of its own; the model only says which device.
    device = choose_device(order.model.model_copy(update={"dtype": "float32", "quantization": "none"}))
    dtypes = str(order.job.parameters["dtypes"]).split(", ")
    series = Series(order, {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu"})
    records: list[JobRecord] = []
    with ForeignWatch(gpu_of(device)) as watch:
        size = COPY_BYTES[device]
        method = f"copy of {size / 2**20:,.0f} MiB within the device's memory, read and write both counted"
        values = copy_bytes_per_second(device, size)
        records.append(series.one("copy_bytes_per_second", "B/s", "machine", values, method))
        for number, dtype in enumerate(dtypes, start=1):
            send(Progress(done=number, total=len(dtypes), unit="precisions"))
            at = series.at({"dtype": dtype})
            if device == "cpu" and dtype == "float16":
                records.append(at.event("ceiling_left_out", "float16 on a CPU is emulated and has no ceiling.", {}))
                continue
            side = MATRIX_SIZE[device]
            method = f"product of two {side} x {side} matrices, 2 * {side}^3 operations"
            values = matmul_flop_per_second(device, dtype, side)
            records.append(at.one("matmul_flop_per_second", "FLOP/s", "machine", values, method))
        send(Records(records=marked(records, series, watch.use())))


def copy_bytes_per_second(device: str, size: int) -> tuple[float, ...]:
    """Return the bandwidth of each run of a copy of `size` bytes, read and write both counted."""
    source = torch.ones(size // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return _rates(lambda: target.copy_(source), 2.0 * size, device)


def matmul_flop_per_second(device: str, dtype: str, side: int) -> tuple[float, ...]:
    """Return the speed of each run of a product of two square matrices of that side."""
    generator = torch.Generator().manual_seed(0)
    kind: torch.dtype = getattr(torch, dtype)
    # Zeros would draw less power and let the clock run faster than real numbers do.
    left, right = (torch.randn(side, side, generator=generator).to(device, kind) for _ in range(2))
    product = torch.empty_like(left)
    return _rates(lambda: torch.mm(left, right, out=product), 2.0 * side**3, device)


def _rates(run: Callable[[], object], amount: float, device: str) -> tuple[float, ...]:
    """Return amount / seconds of runs long enough for the clock, about half a second in all after an untimed call."""
    run()
    calls = max(1, int(SHORTEST_RUN_SECONDS / max(_seconds(run, 1, device), 1e-6)))
    taken: list[float] = []
    while sum(taken) < PROBE_SECONDS or len(taken) < FEWEST_RUNS:
        taken.append(_seconds(run, calls, device))
    return tuple(calls * amount / seconds for seconds in taken)


def _seconds(run: Callable[[], object], calls: int, device: str) -> float:
    synchronize(device)
    started = time.perf_counter()
    for _ in range(calls):
        run()
    synchronize(device)
    return time.perf_counter() - started
