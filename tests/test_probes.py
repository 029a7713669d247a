"""The memory instrument against allocations of known size."""

from __future__ import annotations

import time
from multiprocessing import get_context
from multiprocessing.connection import Connection

import pytest

from harness.probes import PeakMemory, current_memory, reset_peaks

MIB = 1024 * 1024


def _peak_of(allocated_mib: int, sending: Connection) -> None:
    with PeakMemory("cpu") as memory:
        block = bytearray(allocated_mib * MIB)
        block[::4096] = b"x" * len(block[::4096])  # touch every page
        time.sleep(0.1)
        del block
    sending.send((memory.before["process_rss_bytes"], memory.peaks["process_rss_bytes"]))


@pytest.mark.parametrize("allocated_mib", [64, 256])
def test_the_peak_is_what_was_allocated_even_if_it_is_freed_again(allocated_mib: int) -> None:
    context = get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_peak_of, args=(allocated_mib, sending))
    process.start()
    before, peak = receiving.recv()
    process.join()
    # The kernel batches its count of pages, so it may be a little late on either side.
    assert (allocated_mib - 1) * MIB <= peak - before <= (allocated_mib + 16) * MIB


def test_an_earlier_peak_is_forgotten() -> None:
    block = bytearray(128 * MIB)
    block[::4096] = b"x" * len(block[::4096])
    del block
    reset_peaks("cpu")
    with PeakMemory("cpu") as memory:
        pass
    assert memory.peaks["process_rss_bytes"] <= current_memory("cpu")["process_rss_bytes"] + 32 * MIB


@pytest.mark.gpu
def test_torch_figures_on_a_gpu_are_those_of_a_tensor_of_known_size() -> None:
    import torch

    with PeakMemory("cuda") as memory:
        tensor = torch.ones(64 * MIB, dtype=torch.float32, device="cuda")
        del tensor
    allocated = memory.peaks["torch_allocated_bytes"] - memory.before["torch_allocated_bytes"]
    assert allocated == 256 * MIB
    assert memory.peaks["torch_reserved_bytes"] >= memory.peaks["torch_allocated_bytes"]
