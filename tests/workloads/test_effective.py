"""What took effect is seen where it shows: in the autocast, in a layer's output, in the trainer's own settings."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.errors import NotAvailable, PrecisionMismatch
from harness.workloads.effective import (
    check_packing_kept,
    checked_precision,
    checkpointing_effect,
    trainer_effects,
)
from tests.tiny_models import make_tiny_llama


@pytest.fixture
def model(tmp_path: Path) -> Any:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(make_tiny_llama(tmp_path), dtype=torch.bfloat16)
    return get_peft_model(base, LoraConfig(target_modules=["q_proj"], task_type="CAUSAL_LM"))


IDS = torch.arange(3, 20)[None]


def test_what_a_forward_pass_computes_in_is_told(model: Any) -> None:
    with checked_precision(model, "cpu", "bfloat16") as seen, torch.autocast("cpu", torch.bfloat16):
        model(IDS)
    assert seen == {
        "weights_dtype": "bfloat16",
        "lora_dtype": "float32",
        "autocast_dtype": "bfloat16",
        "layer_output_dtype": "bfloat16",
    }


def test_a_library_that_switches_to_bfloat16_is_caught(model: Any) -> None:
    """As unsloth does with gemma3 and qwen3: float16 is asked for, and autocast, or the model, is bfloat16."""
    with (
        checked_precision(model, "cpu", "float16"),
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(PrecisionMismatch, match="asked for in float16, but it computes in bfloat16"),
    ):
        model(IDS)
    with checked_precision(model, "cpu", "float16"), pytest.raises(PrecisionMismatch, match="computes in bfloat16"):
        model(IDS)


def test_a_layer_in_another_half_precision_than_autocast_says_is_caught(model: Any) -> None:
    layer = model.get_base_model().model.layers[0]
    layer.register_forward_hook(lambda module, inputs, output: output.half())
    with (
        checked_precision(model, "cpu", "bfloat16"),
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(PrecisionMismatch, match="computes in float16"),
    ):
        model(IDS)


def test_nothing_is_watched_afterwards(model: Any) -> None:
    with checked_precision(model, "cpu", "bfloat16"):
        model(IDS)
    model.float()(IDS)


def test_packing_that_was_dropped_is_an_error() -> None:
    arguments = SimpleNamespace(packing=False, padding_free=True, fp16=False, bf16=True)
    trainer = SimpleNamespace(
        args=arguments, model=SimpleNamespace(config=SimpleNamespace(_attn_implementation="sdpa"))
    )
    effects = trainer_effects(trainer)
    assert (effects["padding_free_effective"], effects["attention_effective"]) == (True, "sdpa")
    check_packing_kept(False, effects)
    with pytest.raises(NotAvailable, match="packing: the trainer cannot pack"):
        check_packing_kept(True, effects)


def test_checkpointing_is_read_from_the_layers() -> None:
    layers = torch.nn.ModuleList([torch.nn.Linear(1, 1), torch.nn.Linear(1, 1)])
    assert checkpointing_effect(layers) == "off"
    layers[1].gradient_checkpointing = True  # type: ignore[assignment]
    assert checkpointing_effect(layers) == "on"
    layers[0].gradient_checkpointing = "unsloth"  # type: ignore[assignment]
    assert checkpointing_effect(layers) == "on, unsloth"
