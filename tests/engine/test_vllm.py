"""The vLLM engine through whole runs, beside the plain path; on what vLLM was built for, a CUDA GPU or a CPU.

Skipped where vLLM is not installed.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.servers.runs import answers, finished_page, processes_in, records, run, wait_until_gone
from tests.vllm_runs import LEAST_SAME, NEEDS_VLLM, device_of_torch, training_suite, write

pytestmark = NEEDS_VLLM


@pytest.fixture(scope="module")
def device() -> str:
    return device_of_torch()


@pytest.fixture(autouse=True)
def marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mark the processes of this test's runs, so that those left behind can be found."""
    monkeypatch.setenv("RUN_OF", str(tmp_path))


def write_suite(folder: Path, device: str, name: str, engine: str, *, apart: bool = False, **vllm: Any) -> Path:
    """Write a suite of the demonstration model and an adapter that it trains, all answered by one engine.

    Models share a job, and batches, unless something beside the adapter sets them apart.
    """
    suite = training_suite(name, device, "base")
    suite["sampling"] = {"engine": engine, "max_new_tokens": 32, "vllm": {"gpu_memory_share": 0.15, **vllm}}
    suite["models"]["tuned"] = {
        "like": "base",
        "adapter": {"trained_by": "lora"},
        "compare_to": "base",
        "max_seq_length": 255 if apart else 256,
    }
    return write(suite, folder)


def same_as_plain(folder: Path, device: str, name: str) -> None:
    """Compare the answers of a run with those of the plain path, whose adapter is taken from the cache."""
    finished_page(run(write_suite(folder, device, "plain", "plain")))
    results = folder / "results"
    for model in ("base", "tuned"):
        plain = texts(results, "plain", model)
        found = texts(results, name, model)
        assert found.keys() == plain.keys() and len(plain) >= 8
        same = sum(found[prompt] == plain[prompt] for prompt in plain)
        assert same >= LEAST_SAME[device] * len(plain), f"{model}: {same} of {len(plain)} are the same"


def texts(results: Path, suite: str, model: str) -> dict[str, str]:
    rows = answers(results, model, suite)
    assert all(row["error"] is None for row in rows.values())
    return {prompt: row["text"] for prompt, row in rows.items()}


def loaded_models(folder: Path, suite: str) -> dict[str, dict[str, Any]]:
    said = records(folder / "results", "generate", suite)
    return {row["model"]: row for row in said if row["kind"] == "loaded_model"}


def test_base_and_adapter_share_one_vllm_unless_it_mixes_them_up(tmp_path: Path, device: str) -> None:
    """vLLM for CPUs gives a base's rows the adapter of the rows beside them; then the plain path answers."""
    finished_page(run(write_suite(tmp_path, device, "shared", "vllm")))
    loaded = loaded_models(tmp_path, "shared")
    assert len({row["job_id"] for row in loaded.values()}) == 1, "one job holds both"
    assert loaded["tuned"]["adapter_max_logit_change"] > 0 and loaded["base"]["adapter_hash"] is None
    events = {row["code"]: row for row in records(tmp_path / "results", "generate") if row["kind"] == "event"}
    if device == "cuda":
        assert {row["engine"] for row in loaded.values()} == {"vllm"}
    else:
        assert {row["engine"] for row in loaded.values()} == {"plain"}
        assert "a row of base is changed by an adapter of the row beside it" in events["engine_unsuited"]["message"]
    assert not wait_until_gone(tmp_path), processes_in(tmp_path)
    same_as_plain(tmp_path, device, "shared")


def test_a_vllm_for_each_answers_as_the_plain_path_does(tmp_path: Path, device: str) -> None:
    finished_page(run(write_suite(tmp_path, device, "apart", "vllm", apart=True)))
    loaded = loaded_models(tmp_path, "apart")
    assert {row["engine"] for row in loaded.values()} == {"vllm"}
    assert loaded["tuned"]["adapter_max_logit_change"] > 0 and loaded["base"]["adapter_hash"] is None
    events = [row for row in records(tmp_path / "results", "generate") if row["kind"] == "event"]
    assert [row["data"]["seconds"] > 0 for row in events if row["code"] == "engine_warmup"] == [True, True]
    assert not wait_until_gone(tmp_path), processes_in(tmp_path)
    same_as_plain(tmp_path, device, "apart")


def test_weights_shared_by_two_devices_answer_as_the_plain_path_does(
    tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    if device == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip("one GPU only")
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "0|1")  # else it wants a memory node for each process
    suite = write_suite(tmp_path, device, "parallel", "vllm", apart=device == "cpu", tensor_parallel_size=2)
    finished_page(run(suite))
    assert {row["engine"] for row in loaded_models(tmp_path, "parallel").values()} == {"vllm"}
    assert not wait_until_gone(tmp_path), processes_in(tmp_path)
    same_as_plain(tmp_path, device, "parallel")


def test_a_vllm_that_does_not_start_says_why_in_one_sentence(tmp_path: Path, device: str) -> None:
    done = run(write_suite(tmp_path, device, "greedy", "vllm", gpu_memory_share=1.0))
    assert done.returncode == 3, done.stderr
    error, hint = done.stderr.strip().splitlines()[-2:]
    assert error.startswith("error: engine: vllm did not start: ") and "memory" in error
    assert "root cause" not in error and "sampling.vllm.gpu_memory_share" in hint
    assert not wait_until_gone(tmp_path), processes_in(tmp_path)


def test_passes_of_fixed_lengths_are_timed_through_vllm(tmp_path: Path, device: str) -> None:
    path = write_suite(tmp_path, device, "speed", "vllm")
    suite = json.loads(path.read_text(encoding="utf-8"))
    suite["performance"] = {
        "throughput": {
            "models": ["tuned"],
            "engines": ["vllm"],
            "batch_sizes": [1, 4],
            "prompt_tokens": 32,
            "new_tokens": 16,
            "repeats": 3,
        }
    }
    path.write_text(json.dumps(suite, ensure_ascii=False), encoding="utf-8")
    finished_page(run(path))
    found = [row for row in records(tmp_path / "results", "throughput") if row["kind"] == "measurement"]
    rates = {row["conditions"]["batch_size"]: row for row in found if row["name"] == "decode_tokens_per_second"}
    assert rates.keys() == {1, 4}
    assert all(len(row["values"]) == 3 and min(row["values"]) > 0 for row in rates.values())
    assert {row["conditions"]["engine"] for row in rates.values()} == {"vllm"}
    memory = [row for row in found if row["unit"] == "bytes"]
    assert all(row["not_comparable"] for row in memory) and bool(memory) == (device == "cuda")
