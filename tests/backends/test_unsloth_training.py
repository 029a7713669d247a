"""How training talks to unsloth's public interface, seen by a stand-in for it, and what is said where there is none."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import NotAvailable
from harness.suite import Lora, Model, Training, TrainingData
from harness.workloads.training_settings import lora_arguments

ROOT = Path(__file__).parents[2]


class Interface:
    """Notes what FastLanguageModel is called with."""

    def __init__(self) -> None:
        self.loading: dict[str, Any] = {}
        self.lora: dict[str, Any] = {}

    def from_pretrained(self, **arguments: Any) -> tuple[str, str]:
        self.loading = arguments
        return "model", "tokenizer"

    def get_peft_model(self, model: str, **arguments: Any) -> str:
        self.lora = arguments
        return f"{model} with LoRA"


@pytest.fixture
def interface(monkeypatch: pytest.MonkeyPatch) -> Iterator[Interface]:
    stand_in = types.ModuleType("unsloth")
    interface = Interface()
    stand_in.FastLanguageModel = interface  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "unsloth", stand_in)
    monkeypatch.delitem(sys.modules, "harness.backends.unsloth", raising=False)
    yield interface
    sys.modules.pop("harness.backends.unsloth", None)


def test_every_key_of_loading_reaches_unsloth(interface: Interface) -> None:
    import torch

    backend = importlib.import_module("harness.backends.unsloth")
    model = Model(path="x", revision="v1", dtype="bfloat16", quantization="4bit")
    assert backend.load_base(model, "place", 4096, 7, "unsloth") == "model"
    assert interface.loading == {
        "model_name": "place",
        "revision": "v1",
        "max_seq_length": 4096,
        "dtype": torch.bfloat16,
        "load_in_4bit": True,
        "load_in_8bit": False,
        "use_exact_model_name": True,
        "random_state": 7,
        "trust_remote_code": False,
        "use_gradient_checkpointing": "unsloth",
    }


def test_a_local_folder_is_loaded_without_a_look_at_a_hub(interface: Interface, tmp_path: Path) -> None:
    backend = importlib.import_module("harness.backends.unsloth")
    backend.load_base(Model(path="x"), str(tmp_path), 4096, 7)
    assert interface.loading["local_files_only"] is True
    assert os.environ["UNSLOTH_DISABLE_STATISTICS"] == "1"


FIRST = """
import sys, types
class Unsloth(types.ModuleType):
    def __getattr__(self, name):
        early = {"transformers", "trl", "peft"} & set(sys.modules)
        sys.exit(f"before unsloth: {sorted(early)}")
sys.modules["unsloth"] = Unsloth("unsloth")
"""


@pytest.mark.parametrize(
    "path",
    [
        "import harness.worker, harness.process, harness.workloads.generate, harness.backends; "
        "import harness.backends.unsloth",
        "import harness.worker, harness.process; from harness.workloads.train_lora import import_in_order; "
        "import_in_order('unsloth')",
        "import harness.worker, harness.process, harness.workloads.train_timing as timing, types; "
        "timing._device(types.SimpleNamespace(model=types.SimpleNamespace(backend='unsloth')))",
    ],
)
def test_unsloth_comes_before_the_libraries_that_it_patches(path: str) -> None:
    done = subprocess.run([sys.executable, "-c", FIRST + path], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr.strip() == "before unsloth: []"


def test_every_key_of_lora_reaches_unsloth(interface: Interface) -> None:
    backend = importlib.import_module("harness.backends.unsloth")
    given: dict[str, Any] = {
        "r": 8,
        "target_modules": ("q_proj", "v_proj"),
        "lora_alpha": 32,
        "lora_dropout": 0.05,
        "bias": "all",
        "use_rslora": True,
        "use_gradient_checkpointing": "unsloth",
        "random_state": 5,
    }
    lora = Lora(**given)
    training = Training(model="base", data=TrainingData(path="rows.jsonl"), lora=lora)
    assert backend.add_lora("model", lora_arguments(training), lora, 4096) == "model with LoRA"
    assert interface.lora == {**given, "target_modules": ["q_proj", "v_proj"], "max_seq_length": 4096}


def test_where_unsloth_cannot_be_imported_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "unsloth", None)
    monkeypatch.delitem(sys.modules, "harness.backends.unsloth", raising=False)
    with pytest.raises(NotAvailable, match="backend: unsloth could not be imported"):
        importlib.import_module("harness.backends.unsloth")
