"""The model that is trained: a base with fresh LoRA matrices. Import after unsloth, where that is used."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors import SafetensorError
from transformers import AutoConfig

from harness.backends.hf import choose_device, load_base
from harness.backends.rope import scale_rope
from harness.errors import HarnessError, StoreError
from harness.store import saving
from harness.suite import Model, Training
from harness.suite_yaml import nearest
from harness.workloads.loftq import start_from_rounding_error
from harness.workloads.packing import check_rows_apart
from harness.workloads.training_data import TokenizedRows
from harness.workloads.training_settings import Device, Settings, lora_arguments


@dataclass(frozen=True)
class LoraModel:
    """A base with fresh LoRA matrices, the factor that its RoPE was scaled by, and the share of 4-bit rounding error
    that LoftQ left. None where there was no scaling, or no LoftQ."""

    model: Any
    rope_scaling: float | None
    loftq_error_left: float | None


def describe_device(model: Model) -> Device:
    """Look at the machine. NotAvailable if a GPU was asked for and there is none."""
    # Precision and quantization are judged by the training step's own settings.
    kind = choose_device(model.model_copy(update={"dtype": "float32", "quantization": "none"}))
    return Device(
        kind="cuda" if kind == "cuda" else "cpu",
        bfloat16=kind == "cpu" or torch.cuda.is_bf16_supported(including_emulation=False),
        bitsandbytes=importlib.util.find_spec("bitsandbytes") is not None,
    )


def make_lora_model(training: Training, model: Model, settings: Settings, place: str, rows: TokenizedRows) -> LoraModel:
    """Load the base at `place` and put LoRA on it.

    RoPE is scaled only where a row is longer than the model's window: that changes every answer.
    """
    model = model.model_copy(update={"dtype": settings.dtype, "quantization": settings.quantization})
    window = _window(model, place)
    beyond = min(rows.longest, training.max_seq_length) > window
    scaling = training.max_seq_length / window if beyond else None
    if settings.backend == "unsloth":
        from harness.backends import unsloth

        length = training.max_seq_length if scaling else min(training.max_seq_length, window)
        checkpointing = training.lora.use_gradient_checkpointing
        base = unsloth.load_base(model, place, length, training.trainer.seed, checkpointing)
        check_targets(base, training)
        adapted = unsloth.add_lora(base, lora_arguments(training), training.lora, length)
    else:
        base = load_base(model, place, settings.device)
        if scaling:
            scale_rope(base, scaling)
        check_targets(base, training)
        torch.manual_seed(training.lora.random_state)
        adapted = get_peft_model(base, LoraConfig(**lora_arguments(training)))
    if training.trainer.packing:
        check_rows_apart(adapted, rows.dataset, told_lengths=settings.backend == "unsloth")
    left = start_from_rounding_error(adapted, place) if training.lora.loftq_config else None
    return LoraModel(adapted, scaling, left)


def _window(model: Model, place: str) -> int:
    """Return how many tokens the base was made for."""
    config = AutoConfig.from_pretrained(place, revision=model.revision, trust_remote_code=model.trust_remote_code)
    return int(config.get_text_config().max_position_embeddings)


def check_targets(base: Any, training: Training) -> None:
    """HarnessError for a target that no layer is called; peft would leave it out without a word."""
    names = {name.rpartition(".")[2] for name, module in base.named_modules() if hasattr(module, "in_features")}
    for target in training.lora.target_modules:
        if target not in names:
            close = nearest(target, names)
            meant = f"Did you mean '{close}'?" if close else f"There are {', '.join(sorted(names))}."
            raise HarnessError(f"target_modules: no linear layer of this model is called '{target}'.", meant)


def prove_trained(model: Any) -> int:
    """Return how many LoRA B matrices are not zero. HarnessError if training left none, or left numbers not finite."""
    matrices = {name: value for name, value in model.named_parameters() if "lora_A" in name or "lora_B" in name}
    broken = sum(not bool(torch.isfinite(value).all()) for value in matrices.values())
    if broken:
        raise HarnessError(
            f"Training diverged: {broken} of {len(matrices)} LoRA matrices hold numbers that are not finite.",
            "Lower learning_rate, or train in bfloat16 or float32.",
        )
    nonzero = sum(bool(value.any()) for name, value in matrices.items() if "lora_B" in name)
    if nonzero == 0:
        raise HarnessError("Training changed nothing: every LoRA B matrix is still zero.", "Raise learning_rate.")
    return nonzero


def save(model: Any, folder: Path) -> None:
    """Write the adapter as peft does, with keys in a fixed order, so that equal adapters are equal files."""
    try:
        with saving(folder):
            model.save_pretrained(folder, safe_serialization=True, save_embedding_layers=False)
            (folder / "README.md").unlink(missing_ok=True)  # peft's empty form
            file = folder / "adapter_config.json"
            config = json.loads(file.read_text(encoding="utf-8"))
            config["target_modules"] = sorted(config["target_modules"])
            file.write_text(json.dumps(config, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    except SafetensorError as error:
        raise StoreError(f"{folder}: the adapter could not be written: {error}.") from error
