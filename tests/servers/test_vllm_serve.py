"""A real `vllm serve --enable-lora` with the demonstration model, started and stopped by the run, beside hf itself.

On what vLLM was built for, a CUDA GPU or a CPU; skipped where it is not installed.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tests.servers.runs import (
    answers,
    finished_page,
    processes_in,
    records,
    run,
    start,
    wait_for_answers,
    wait_until_gone,
)
from tests.vllm_runs import LEAST_SAME, NEEDS_VLLM, device_of_torch, training_suite, write

pytestmark = NEEDS_VLLM


@pytest.fixture(autouse=True)
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the command; where there is only the package, one is made of it."""
    monkeypatch.setenv("RUN_OF", str(tmp_path))
    beside = Path(sys.executable).with_name("vllm")
    if found := shutil.which(str(beside)) or shutil.which("vllm"):
        return found
    command = tmp_path / "vllm"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vllm.entrypoints.cli.main "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return str(command)


@pytest.fixture(scope="module")
def device() -> str:
    return device_of_torch()


def write_suite(folder: Path, vllm: str, device: str) -> Path:
    """Write a suite that trains an adapter, then asks base and adapter of one server, and of hf."""
    share = "0.3" if device == "cuda" else "0.15"
    suite = training_suite("served", device, "hf_base")
    suite["servers"] = {
        "own": {
            "kind": "vllm",
            "executable": vllm,
            "arguments": ["--gpu-memory-utilization", share, "--enforce-eager"],
        }
    }
    suite["sampling"] = {"batch_size": 8, "max_new_tokens": 32}
    suite["models"] |= {
        "hf_tuned": {"like": "hf_base", "adapter": {"trained_by": "lora"}, "compare_to": "hf_base"},
        "base": {"like": "hf_base", "backend": "openai_http", "server": "own"},
        "tuned": {"like": "base", "adapter": {"trained_by": "lora"}, "compare_to": "base"},
    }
    suite["performance"] = {
        "throughput": {"models": ["tuned"], "batch_sizes": [8], "prompt_tokens": 32, "new_tokens": 16, "repeats": 3}
    }
    return write(suite, folder)


def test_base_and_adapter_of_one_server_answer_as_hf_does(tmp_path: Path, vllm: str, device: str) -> None:
    finished_page(run(write_suite(tmp_path, vllm, device)))
    results = tmp_path / "results"
    served = {name: answers(results, name) for name in ("base", "tuned")}
    for name, found in served.items():
        expected = answers(results, f"hf_{name}")
        assert found.keys() == expected.keys() and len(found) >= 8
        assert all(one["error"] is None for one in found.values())
        same = sum(found[prompt]["text"].strip() == expected[prompt]["text"].strip() for prompt in found)
        assert same >= LEAST_SAME[device] * len(found), f"{name}: {same} of {len(found)} are the same"
    changed = [prompt for prompt in served["base"] if served["base"][prompt]["text"] != served["tuned"][prompt]["text"]]
    assert changed, "the adapter was not used"
    figures = {row["name"] for row in records(results, "throughput") if row["kind"] == "measurement"}
    assert {"time_to_first_token_seconds", "inter_token_latency_seconds"} <= figures
    logs = list(results.glob("*/*/servers/own.log"))
    assert len(logs) == 1 and "--enable-lora" in logs[0].read_text(encoding="utf-8")
    assert not wait_until_gone(tmp_path), processes_in(tmp_path)


def test_a_vllm_killed_in_mid_run_leaves_nothing_and_the_same_command_goes_on(
    tmp_path: Path, vllm: str, device: str
) -> None:
    suite, results = write_suite(tmp_path, vllm, device), tmp_path / "results"
    content = json.loads(suite.read_text(encoding="utf-8"))
    content["sampling"]["batch_size"] = content["servers"]["own"]["concurrency"] = 1  # slow enough to be killed
    content["models"] = {"base": {**content["models"]["hf_base"], "backend": "openai_http", "server": "own"}}
    del content["training"], content["performance"]
    suite.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    process = start(suite)
    wait_for_answers(results, 2)
    servers = [one for one in processes_in(tmp_path) if {"serve", "--port"} <= set(one.cmdline())]
    server = next(one for one in servers if "keeper.py" not in " ".join(one.cmdline()))
    server.send_signal(signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 5, errors
    assert "Server 'own' (vllm serve) ended in mid-run" in errors and "signal SIGKILL" in errors
    assert not wait_until_gone(tmp_path), processes_in(tmp_path)
    kept = {prompt: row for prompt, row in answers(results, "base").items() if row["error"] is None}
    finished_page(run(suite))
    found = answers(results, "base")
    assert len(kept) >= 2 and found.items() >= kept.items()
    assert all(row["error"] is None for row in found.values())
    assert not wait_until_gone(tmp_path), processes_in(tmp_path)
