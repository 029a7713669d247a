"""The 8B suites as they are in the project, on a processor, with a model of a few thousand parameters in its place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.suite_file import load_suite
from tests.tiny_models import make_tiny_llama

ROOT = Path(__file__).parents[2]
POINTS = "[{batch_size: 1, prompt_tokens: 8, new_tokens: 4}, {batch_size: 4, prompt_tokens: 16, new_tokens: 4}]"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("llama"))


def run(suite: str, llama: Path, results: Path, *overrides: str) -> tuple[list[dict[str, Any]], str]:
    """Run a suite whole; return all records of its jobs, and its page."""
    shrunk = [f"models.base.path={llama}", "models.base.device=cpu", "models.base.dtype=float32", *overrides]
    options = [part for override in shrunk for part in ("-o", override)]
    command = [sys.executable, "-m", "harness", "run", f"suites/{suite}.yaml", "--results", str(results), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (page,) = results.glob(f"{suite}/*/report.html")
    lines = [line for file in page.parent.glob("jobs/*/records.jsonl") for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines], page.read_text(encoding="utf-8")


def names(records: list[dict[str, Any]]) -> set[str]:
    return {record["name"] for record in records if record["kind"] == "measurement"}


def test_the_throughput_suite_runs_to_its_page(llama: Path, tmp_path: Path) -> None:
    records, page = run("throughput_8b", llama, tmp_path, f"performance.throughput.points={POINTS}")
    assert sum(record.get("name") == "load_seconds" for record in records) == 2, "one process for each engine"
    speeds = [record["conditions"] for record in records if record.get("name") == "decode_tokens_per_second"]
    measured = {(speed["engine"], speed["batch_size"]) for speed in speeds}
    assert measured == {("plain", 1), ("plain", 4), ("fast", 1), ("fast", 4)} and len(speeds) == 4
    assert {"copy_bytes_per_second", "matmul_flop_per_second", "decode_flop_per_second"} <= names(records)
    assert {record["weights"] for record in records if record["kind"] == "loaded_model"} == {"random"}
    assert 'id="roofline"' in page and 'id="performance"' in page and 'id="precision"' not in page


def test_the_precision_suite_runs_to_its_page_and_leaves_out_what_a_cpu_cannot_do(llama: Path, tmp_path: Path) -> None:
    points = "[{dtype: float32}, {dtype: bfloat16}, {dtype: float16}, {dtype: bfloat16, quantization: 4bit}]"
    section = "performance.precision"
    records, page = run(
        "precision_8b",
        llama,
        tmp_path,
        f"{section}.points={points}",
        f"{section}.prompt_tokens=8",
        f"{section}.new_tokens=4",
        f"{section}.training_steps=3",
    )
    timed = {record["conditions"]["dtype"] for record in records if record.get("name") == "training_loss"}
    assert timed == {"float32", "bfloat16"}
    told = {record["message"] for record in records if record.get("code") == "precision_left_out"}
    assert any("float16 was left out" in message for message in told)
    assert any("bfloat16 with 4bit weights was left out" in message for message in told)
    assert 'id="precision"' in page and "Loss − reference loss" in page
    assert 'href="#precision"' in page


@pytest.mark.parametrize("suite", ["throughput_8b", "precision_8b"])
def test_the_suites_have_no_faults(suite: str) -> None:
    loaded = load_suite(ROOT / "suites" / f"{suite}.yaml")
    assert loaded.suite.models["base"].weights == "random"
    assert loaded.prompts == ()
