"""Energy and processes of a GPU against a driver whose readings are known."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from harness.nvml import EnergyMeter, ForeignWatch, Gpu, foreign_processes, gpu_of, idle_power_watts, integral
from tests.fake_nvml import GIB, FakeNvml

OTHER = os.getpid() + 1


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setitem(sys.modules, "pynvml", fake)
    return fake


def test_energy_is_the_difference_of_the_counter(nvml: FakeNvml) -> None:
    nvml.millijoules = [5_000_000, 5_012_500]
    with EnergyMeter(Gpu("GPU-1")) as meter:
        time.sleep(0.05)
    assert meter.joules == 12.5
    assert meter.seconds == pytest.approx(0.05, abs=0.04)
    assert "counter" in meter.method


def test_a_gpu_without_a_counter_is_sampled_for_power(nvml: FakeNvml) -> None:
    nvml.milliwatts = [300_000]
    with EnergyMeter(Gpu("GPU-1")) as meter:
        time.sleep(0.2)
    assert meter.joules is not None
    assert meter.joules / meter.seconds == pytest.approx(300, rel=0.1)
    assert "power" in meter.method


def test_there_is_a_reason_where_there_is_no_energy(nvml: FakeNvml) -> None:
    with EnergyMeter(Gpu("GPU-1")) as silent, EnergyMeter(None) as absent:
        pass
    assert silent.joules is None and "neither" in silent.method
    assert absent.joules is None and "no NVIDIA GPU" in absent.method


def test_power_is_integrated_by_the_trapezoidal_rule() -> None:
    # A ramp from 0 to 100 W over 2 s is 100 J, then 100 W for 3 s are 300 J, whatever the distances of the readings.
    assert integral([(0.0, 0.0), (0.5, 25.0), (2.0, 100.0), (5.0, 100.0)]) == pytest.approx(400)
    assert integral([(1.0, 50.0)]) == 0


def test_idle_power_is_energy_over_time(nvml: FakeNvml) -> None:
    nvml.millijoules = [0, 10_000]
    assert idle_power_watts(Gpu("GPU-1"), seconds=0.1) == pytest.approx(100, rel=0.2)


def test_no_gpu_is_no_gpu() -> None:
    assert gpu_of("cpu") is None
    with ForeignWatch(None) as watch:
        pass
    assert not watch.use().found


def test_a_job_alone_on_the_gpu_finds_nobody(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.nvml.WATCH_SECONDS", 0.01)
    with ForeignWatch(Gpu("GPU-1")) as watch:
        nvml.processes = {os.getpid(): 20 * GIB}
        time.sleep(0.1)
    assert not watch.use().found


def test_processes_before_and_during_a_job_are_found(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.nvml.WATCH_SECONDS", 0.01)
    nvml.processes = {OTHER: 3 * GIB}
    with ForeignWatch(Gpu("GPU-1")) as watch:
        nvml.processes = {OTHER: 4 * GIB, os.getpid(): 20 * GIB, OTHER + 1: 2 * GIB}
        time.sleep(0.1)
    use = watch.use()
    assert (use.before, use.during, use.memory_bytes) == (1, 2, 6 * GIB)


def test_a_process_that_came_and_went_is_found(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.nvml.WATCH_SECONDS", 0.01)
    with ForeignWatch(Gpu("GPU-1")) as watch:
        nvml.processes = {OTHER: GIB, os.getpid(): GIB}
        time.sleep(0.1)
        nvml.processes = {os.getpid(): GIB}
        time.sleep(0.1)
    assert watch.use().during == 1


def test_a_process_that_the_job_started_is_its_own(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.nvml.WATCH_SECONDS", 0.01)
    with subprocess.Popen(["sleep", "60"]) as child:
        with ForeignWatch(Gpu("GPU-1")) as watch:
            nvml.processes = {os.getpid(): GIB, child.pid: 100 * GIB}
            time.sleep(0.1)
        child.kill()
    assert not watch.use().found


def test_in_a_container_the_new_process_under_an_unknown_number_is_this_one() -> None:
    assert foreign_processes({70_001: 16 * GIB}, before=(), own={12}) == {}
    assert foreign_processes({70_001: 16 * GIB, 70_002: GIB}, before=(), own={12}) == {70_002: GIB}
    assert foreign_processes({69_000: 30 * GIB, 70_001: GIB}, before=(69_000,), own={12}) == {69_000: 30 * GIB}


def test_memory_that_nobody_visible_holds_is_told(nvml: FakeNvml) -> None:
    nvml.used = 40 * GIB
    with ForeignWatch(Gpu("GPU-1")) as watch:
        pass
    assert watch.use().found
    assert watch.use().unexplained_bytes == 40 * GIB


@pytest.mark.gpu
def test_a_known_load_uses_energy_and_nobody_else_is_there() -> None:
    import torch

    gpu = Gpu.of_torch()
    with ForeignWatch(gpu) as watch:
        matrix = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
        idle = idle_power_watts(gpu)
        with EnergyMeter(gpu) as meter:
            started = time.perf_counter()
            while time.perf_counter() - started < 2:
                matrix @ matrix
                torch.cuda.synchronize()
    assert idle is not None and meter.joules is not None
    assert meter.joules / meter.seconds > 1.5 * idle
    assert not watch.use().found, watch.use()
