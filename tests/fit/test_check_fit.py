"""The comparison of predicted with measured memory reads what the GPU scripts write, and judges by 10 %."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from harness.fit.architecture import read_architecture
from harness.fit.memory import predict
from tests.gpu.check_fit import training_of
from tests.gpu.configurations import MATRIX

PROJECT = Path(__file__).parents[2]
LLAMA = read_architecture(str(PROJECT / "suites/configs/llama31_8b"))


@pytest.mark.parametrize(("factor", "status", "verdict"), [(1.05, 0, "2 of 2 within"), (1.2, 1, "0 of 2 within")])
def test_points_are_judged_by_their_reserved_memory(tmp_path: Path, factor: float, status: int, verdict: str) -> None:
    points = []
    for configuration in MATRIX[:2]:
        point = asdict(configuration)
        reserved = predict(training_of(point, LLAMA)).reserved
        points.append({**point, "status": "measured", "peak_reserved_bytes": round(reserved * factor)})
    points.append({**asdict(MATRIX[2]), "status": "not measured", "reason": "no time"})
    (tmp_path / "training.json").write_text(json.dumps({"points": points}), encoding="utf-8")
    command = [sys.executable, "-m", "tests.gpu.check_fit", str(tmp_path / "training.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT)
    assert done.returncode == status, done.stderr
    assert verdict in done.stdout
    assert f"{1 / factor - 1:+.1%}" in done.stdout


def test_every_configuration_of_the_matrix_can_be_predicted() -> None:
    for configuration in MATRIX:
        assert predict(training_of(asdict(configuration), LLAMA)).process > 6 << 30
