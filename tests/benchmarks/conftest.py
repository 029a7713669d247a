"""Every benchmark names the reference it is a ratio to; the references are benchmarks themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

Timed = Callable[..., Any]


@pytest.hookimpl(tryfirst=True)
def pytest_benchmark_generate_json(benchmarks: list[Any]) -> None:
    """Leave out benchmarks that failed before they had a time: the report would stop at them and hide the reason."""
    benchmarks[:] = [one for one in benchmarks if one.stats.data]


@pytest.fixture
def timed(benchmark: BenchmarkFixture) -> Timed:
    """Time a call: `timed(reference, rounds, function)`; `reference` is the name of a test in test_references."""

    def run(reference: str, rounds: int, function: Callable[[], Any]) -> Any:
        benchmark.extra_info["reference"] = reference
        return benchmark.pedantic(function, rounds=rounds, warmup_rounds=1)  # type: ignore[no-untyped-call]

    return run
