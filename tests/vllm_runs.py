"""What the tests of a real vLLM share: where they run, what they ask of it, and a suite that trains an adapter.

vLLM runs on what it was built for, a CUDA GPU or a CPU.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from tests.servers.runs import REPOSITORY

NEEDS_VLLM = [
    pytest.mark.vllm,
    pytest.mark.timeout(420),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed"),
]
TINY_KO = REPOSITORY / "harness" / "tiny_ko" / "model"
LEAST_SAME = {"cuda": 0.75, "cpu": 1.0}
"""Share of greedy answers that must be transformers' to the letter: in a GPU's bfloat16 a near tie may turn."""


def device_of_torch() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def training_suite(name: str, device: str, base: str) -> dict[str, Any]:
    """Return a suite of the demonstration model `base` that trains an adapter `lora`; it has no other models yet."""
    model = {
        "path": str(TINY_KO),
        "dtype": "bfloat16" if device == "cuda" else "float32",
        "prompt_format": "alpaca_ko",
        "max_seq_length": 256,
    }
    training = {
        "model": base,
        "data": {"path": str(REPOSITORY / "suites" / "data" / "safe_conversation_ko.jsonl")},
        "max_seq_length": 256,
        "lora": {"r": 16, "lora_alpha": 32},
        "trainer": {"max_steps": 40, "learning_rate": 1e-3, "optim": "adamw_torch"},
    }
    return {
        "name": name,
        "prompts": [str(REPOSITORY / "prompts" / "smoke_ko.jsonl")],
        "models": {base: model},
        "training": {"lora": training},
    }


def write(suite: dict[str, Any], folder: Path) -> Path:
    """Write a suite, which is YAML as it is JSON, under its name."""
    path = folder / f"{suite['name']}.yaml"
    path.write_text(json.dumps(suite, ensure_ascii=False), encoding="utf-8")
    return path
