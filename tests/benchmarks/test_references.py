"""The yardsticks: fixed work of the kinds the benchmarks do, timed in the same run on the same machine."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.benchmarks.conftest import Timed


def test_reference_process(timed: Timed) -> None:
    """Starting an interpreter that imports nothing."""
    done = timed("", 10, lambda: subprocess.run([sys.executable, "-I", "-c", "pass"], check=True))
    assert done.returncode == 0


def test_reference_python(timed: Timed) -> None:
    """Work of the interpreter: text, dictionaries, JSON."""

    def work() -> int:
        rows = [json.dumps({"id": number, "text": "가나다라 " * 20}, ensure_ascii=False) for number in range(5_000)]
        return sum(len(json.loads(row)["text"].split()) for row in rows)

    assert timed("", 10, work) == 100_000


def test_reference_torch(timed: Timed) -> None:
    """Work of the processor through torch: matrix products."""
    import torch

    left = torch.ones(1024, 1024)

    def work() -> float:
        product = left
        for _ in range(10):
            product = (product @ left) / 1024
        return float(product[0, 0])

    assert timed("", 10, work) == 1.0
