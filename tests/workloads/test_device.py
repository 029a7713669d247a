"""What a CPU cannot do is said before any job starts, in the words that the job itself would end with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.environment import read_gpus
from harness.orders import Failed, WorkOrder
from harness.records import JobKind, Scalar
from harness.suite import Model, Training
from harness.worker import work
from harness.workloads.device import refused_on_cpu
from tests.orders import Inbox, make_order
from tests.vllm_runs import TINY_KO

REPOSITORY = Path(__file__).parents[2]
without_gpu = pytest.mark.skipif(bool(read_gpus()), reason="with a GPU these are no faults")


def write_suite(folder: Path, *, late_training: dict[str, Any] | None = None) -> Path:
    """Write a suite of the demonstration model that trains an adapter before `late` answers, and before another."""
    row = {"instruction": "질문", "input": "", "output": "답"}
    (folder / "rows.jsonl").write_text(32 * f"{json.dumps(row)}\n", encoding="utf-8")
    trainings: dict[str, dict[str, Any]] = {"first": {}, **({"late": late_training} if late_training else {})}
    shared = {"model": "base", "data": {"path": "rows.jsonl"}}
    suite = {
        "name": "early",
        "prompts": [str(REPOSITORY / "prompts" / "smoke_ko.jsonl")],
        "sampling": {"max_new_tokens": 4},
        "models": {
            "base": {"path": str(TINY_KO), "prompt_format": "alpaca_ko", "max_seq_length": 256},
            "late": {"like": "base"},
            **{name: {"like": "base", "adapter": {"trained_by": name}, "compare_to": "base"} for name in trainings},
        },
        "training": {
            name: {**shared, **keys, "trainer": {"max_steps": 2, "optim": "adamw_torch", **keys.get("trainer", {})}}
            for name, keys in trainings.items()
        },
    }
    (folder / "suite.yaml").write_text(json.dumps(suite), encoding="utf-8")
    return folder / "suite.yaml"


def run(suite: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "harness",
        "run",
        str(suite),
        "--results",
        str(suite.parent / "out"),
        "--limit",
        "2",
    ]
    offline = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.run([*command, *options], cwd=REPOSITORY, env=offline, capture_output=True, text=True)


@without_gpu
def test_a_model_that_a_cpu_cannot_do_stops_a_run_before_its_training(tmp_path: Path) -> None:
    suite = write_suite(tmp_path)
    half = run(suite, "-o", "models.late.dtype=float16")
    assert half.returncode == 3
    assert half.stderr == (
        "error: dtype: float16 on a CPU: processors emulate float16 arithmetic, about a hundred times slower.\n"
        "hint: Use dtype: bfloat16 or float32 on a CPU.\n"
    )
    stored = run(suite, "-o", "models.late.quantization=4bit")
    assert stored.returncode == 3
    assert stored.stderr == ("error: quantization: 4bit needs a CUDA GPU.\nhint: Use quantization: none on a CPU.\n")
    assert not (tmp_path / "out" / "adapters").exists()


@without_gpu
def test_a_later_training_that_a_cpu_cannot_do_stops_a_run_before_the_first(tmp_path: Path) -> None:
    done = run(write_suite(tmp_path, late_training={"trainer": {"fp16": True}}))
    assert done.returncode == 3
    assert done.stderr.startswith("error: fp16: float16 training needs a CUDA GPU")
    assert not (tmp_path / "out" / "adapters").exists()


def order(kind: JobKind = "generate", parameters: dict[str, Scalar] | None = None, **model: Any) -> WorkOrder:
    settings = Model.model_validate({"path": "model", "device": "auto", **model})
    return make_order(TINY_KO, kind=kind, model=settings, parameters=parameters)


def training_order(folder: Path, **keys: Any) -> WorkOrder:
    training = {"model": "base", "data": {"path": "rows.jsonl"}, "trainer": {"max_steps": 1}, **keys}
    added = {"training": Training.model_validate(training), "training_folder": str(folder)}
    return order("train").model_copy(update=added)


@without_gpu
@pytest.mark.parametrize(
    "asked", [{"dtype": "float16"}, {"quantization": "8bit"}, {"dtype": "float16", "device": "cuda"}]
)
def test_it_is_the_sentence_of_the_job(asked: dict[str, Any]) -> None:
    late, early = Inbox(), Inbox()
    work(order(**asked), late)
    work(order(**asked).model_copy(update={"only": "check_device"}), early)
    assert isinstance(late.messages[-1], Failed) and early.messages == [late.messages[-1]]


PRECISION: dict[str, Scalar] = {"study": "precision"}
THROUGHPUT: dict[str, Scalar] = {"study": "throughput"}


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        (order(dtype="float16"), True),
        (order("lm_eval", quantization="4bit"), True),
        (order("throughput", {**THROUGHPUT, "engine": "plain"}, dtype="float16"), True),
        (order(dtype="bfloat16"), False),
        (order("throughput", {**THROUGHPUT, "engine": "fast"}, quantization="4bit"), False),  # unsuited, and said so
        (order("throughput", PRECISION, dtype="float16"), False),  # left out, and said so
        (order("train_timing", PRECISION, dtype="float16"), False),
        (order("precision_answers", PRECISION, dtype="float16"), False),
        (order("ceilings", {"study": "ceilings", "dtypes": "float16"}, dtype="float16"), False),
        (order(backend="openai_http", server="gpu", dtype="float16"), False),  # the server's machine decides
    ],
)
def test_only_what_would_end_in_an_error_is_one(asked: WorkOrder, refused: bool) -> None:
    assert refused_on_cpu(asked) is refused


def test_a_training_in_float16_is_refused_unless_its_adapter_is_in_the_cache(tmp_path: Path) -> None:
    assert refused_on_cpu(training_order(tmp_path / "none", dtype="float16"))
    assert not refused_on_cpu(training_order(tmp_path, dtype="float16"))
    assert not refused_on_cpu(training_order(tmp_path / "none", dtype="bfloat16"))
