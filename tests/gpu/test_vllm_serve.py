"""A real `vllm serve --enable-lora` with the demonstration model, started and stopped by the run, beside hf itself."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.servers.runs import REPOSITORY, answers, finished_page, processes_in, records, run, wait_until_gone

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(420)]
TINY_KO = REPOSITORY / "harness" / "tiny_ko" / "model"
LEAST_SAME = 0.75
"""Share of greedy answers that must be hf's to the letter: in bfloat16 a near tie between tokens may turn."""


@pytest.fixture(autouse=True)
def vllm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the command; where there is only the package, one is made of it."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vllm is not installed")
    monkeypatch.setenv("RUN_OF", str(tmp_path))
    if found := shutil.which("vllm"):
        return found
    command = tmp_path / "vllm"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m vllm.entrypoints.cli.main "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return str(command)


def write_suite(folder: Path, vllm: str) -> Path:
    """Write a suite that trains an adapter, then asks base and adapter of one server, and of hf."""
    prompts = REPOSITORY / "prompts" / "smoke_ko.jsonl"
    rows = REPOSITORY / "suites" / "data" / "safe_conversation_ko.jsonl"
    suite = {
        "name": "served",
        "prompts": [str(prompts)],
        "servers": {
            "gpu": {
                "kind": "vllm",
                "executable": vllm,
                "arguments": ["--gpu-memory-utilization", "0.3", "--enforce-eager"],
            }
        },
        "sampling": {"batch_size": 8, "max_new_tokens": 32},
        "models": {
            "hf_base": {"path": str(TINY_KO), "dtype": "bfloat16", "prompt_format": "alpaca_ko", "max_seq_length": 256},
            "hf_tuned": {"like": "hf_base", "adapter": {"trained_by": "lora"}, "compare_to": "hf_base"},
            "base": {"like": "hf_base", "backend": "openai_http", "server": "gpu"},
            "tuned": {"like": "base", "adapter": {"trained_by": "lora"}, "compare_to": "base"},
        },
        "training": {
            "lora": {
                "model": "hf_base",
                "data": {"path": str(rows)},
                "max_seq_length": 256,
                "lora": {"r": 16, "lora_alpha": 32},
                "trainer": {"max_steps": 40, "learning_rate": 1e-3, "optim": "adamw_torch"},
            }
        },
        "performance": {
            "throughput": {"models": ["tuned"], "batch_sizes": [8], "prompt_tokens": 32, "new_tokens": 16, "repeats": 3}
        },
    }
    (folder / "suite.yaml").write_text(json.dumps(suite, ensure_ascii=False), encoding="utf-8")
    return folder / "suite.yaml"


def test_base_and_adapter_of_one_server_answer_as_hf_does(tmp_path: Path, vllm: str) -> None:
    finished_page(run(write_suite(tmp_path, vllm)))
    results = tmp_path / "results"
    served = {name: answers(results, name) for name in ("base", "tuned")}
    for name, found in served.items():
        expected = answers(results, f"hf_{name}")
        assert found.keys() == expected.keys() and len(found) >= 8
        assert all(one["error"] is None for one in found.values())
        same = sum(found[prompt]["text"].strip() == expected[prompt]["text"].strip() for prompt in found)
        assert same >= LEAST_SAME * len(found), f"{name}: {same} of {len(found)} are the same"
    changed = [prompt for prompt in served["base"] if served["base"][prompt]["text"] != served["tuned"][prompt]["text"]]
    assert changed, "the adapter was not used"
    figures = {row["name"] for row in records(results, "throughput") if row["kind"] == "measurement"}
    assert {"time_to_first_token_seconds", "inter_token_latency_seconds"} <= figures
    logs = list(results.glob("*/*/servers/gpu.log"))
    assert len(logs) == 1 and "--enable-lora" in logs[0].read_text(encoding="utf-8")
    assert not wait_until_gone(tmp_path), processes_in(tmp_path)
