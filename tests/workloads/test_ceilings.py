"""The machine's limits: counted from known work over a known clock, and plausible on the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.records import Event, Measurement, Scalar
from harness.workloads import ceilings
from tests.orders import Inbox, make_order


class Clock:
    """Every call of the work takes exactly this many seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds_a_call: float) -> None:
        self.now = 0.0
        self.seconds_a_call = seconds_a_call
        self.calls = 0
        monkeypatch.setattr("harness.workloads.ceilings.time.perf_counter", lambda: self.now)

    def work(self) -> None:
        self.calls += 1
        self.now += self.seconds_a_call


@pytest.mark.parametrize("seconds_a_call", [0.5, 0.02, 0.0001])
def test_a_rate_is_the_amount_of_a_call_over_its_seconds(
    monkeypatch: pytest.MonkeyPatch, seconds_a_call: float
) -> None:
    clock = Clock(monkeypatch, seconds_a_call)
    rates = ceilings._rates(clock.work, amount=1000.0, device="cpu")
    assert rates == pytest.approx([1000.0 / seconds_a_call] * len(rates))
    assert len(rates) >= 5
    assert clock.calls * seconds_a_call >= 0.5


def test_a_job_measures_the_copy_and_each_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "PROBE_SECONDS", 0.02)
    monkeypatch.setitem(ceilings.COPY_BYTES, "cpu", 32 * 1024**2)
    monkeypatch.setitem(ceilings.MATRIX_SIZE, "cpu", 256)
    inbox = Inbox()
    parameters: dict[str, Scalar] = {"study": "ceilings", "dtypes": "float32, float16"}
    ceilings.measure_ceilings(make_order(Path("none"), kind="ceilings", parameters=parameters), inbox)
    found = {record.name: record for record in inbox.records if isinstance(record, Measurement)}
    assert 1e8 < max(found["copy_bytes_per_second"].values) < 1e12
    assert 1e8 < max(found["matmul_flop_per_second"].values) < 1e14
    assert found["matmul_flop_per_second"].conditions["dtype"] == "float32"
    assert "2 * 256^3" in found["matmul_flop_per_second"].method
    (left_out,) = [record for record in inbox.records if isinstance(record, Event)]
    assert "float16" in left_out.message


@pytest.mark.gpu
def test_a_gpu_is_far_above_a_processor() -> None:
    assert max(ceilings.copy_bytes_per_second("cuda", 2 * 1024**3)) > 1e11
    assert max(ceilings.matmul_flop_per_second("cuda", "bfloat16", 8192)) > 1e13
