"""What a training step asks for, made into what this machine will do; what it cannot do is an error with a sentence.

Pure: no torch, nothing loaded. `Settings` says how it will be done, and `lora_arguments` and `trainer_arguments` are
the very arguments of peft.LoraConfig and trl.SFTConfig.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from harness.errors import NotAvailable
from harness.records import Scalar
from harness.suite import Dtype, Model, Training

BITSANDBYTES_OPTIMIZERS = {
    "adamw_8bit": "adamw_torch",
    "paged_adamw_8bit": "adamw_torch",
    "paged_adamw_32bit": "adamw_torch",
}
"""Optimizers of bitsandbytes, and the one with the same update rule that needs nothing but torch."""


@dataclass(frozen=True)
class Device:
    """What training needs to know of the machine. `bfloat16` is whether the hardware computes in it."""

    kind: Literal["cpu", "cuda"]
    bfloat16: bool
    bitsandbytes: bool


@dataclass(frozen=True)
class Settings:
    """How one training step is done here. `substitutions` says what stands in for what was asked, and why."""

    backend: Literal["hf", "unsloth"]
    device: Literal["cpu", "cuda"]
    dtype: Dtype
    quantization: Literal["none", "4bit", "8bit"]
    fp16: bool
    bf16: bool
    optim: str
    substitutions: Mapping[str, str]

    @property
    def compute_dtype(self) -> Dtype:
        """Return the dtype that matrix products are to be done in."""
        if self.fp16:
            return "float16"
        return "bfloat16" if self.bf16 else self.dtype


def resolve(training: Training, model: Model, device: Device) -> Settings:
    """Decide how the step is done on this device. NotAvailable names the key that cannot be honoured."""
    backend = training.backend or model.backend
    assert backend != "scripted" and backend != "openai_http"  # the suite's checks refuse it
    dtype = training.dtype or model.dtype
    in_4bit = model.quantization == "4bit" if training.load_in_4bit is None else training.load_in_4bit
    quantization: Literal["none", "4bit", "8bit"] = "4bit" if in_4bit else "none"
    if model.quantization == "8bit" and not in_4bit:
        quantization = "8bit"
    trainer = training.trainer
    fp16 = (dtype == "float16" and not trainer.bf16) if trainer.fp16 is None else trainer.fp16
    bf16 = (dtype == "bfloat16" and not trainer.fp16) if trainer.bf16 is None else trainer.bf16
    optim: str = trainer.optim
    substitutions: dict[str, str] = {}
    if optim in BITSANDBYTES_OPTIMIZERS and not (device.kind == "cuda" and device.bitsandbytes):
        why = "bitsandbytes is not installed" if device.kind == "cuda" else "bitsandbytes optimizers need a CUDA GPU"
        stand_in = BITSANDBYTES_OPTIMIZERS[optim]
        substitutions["optim"] = f"{stand_in} in place of {optim}: {why}"
        optim = stand_in
    settings = Settings(backend, device.kind, dtype, quantization, fp16, bf16, optim, substitutions)
    _check_precision(settings, device)
    _check_lora(training, settings)
    if backend == "unsloth" and device.kind == "cpu":
        raise NotAvailable("backend: unsloth trains on a CUDA GPU only.", "Use backend: hf.")
    return settings


def _check_precision(settings: Settings, device: Device) -> None:
    if device.kind == "cpu":
        if settings.quantization != "none":
            raise NotAvailable(
                f"load_in_4bit / quantization: {settings.quantization} weights need bitsandbytes and a CUDA GPU.",
                "Use load_in_4bit: false and quantization: none on a CPU.",
            )
        if settings.fp16 or settings.dtype == "float16":
            raise NotAvailable(
                "fp16: float16 training needs a CUDA GPU (a CPU emulates it, and its loss scaling is not supported).",
                "Use bf16: true, or dtype: float32.",
            )
        return
    if settings.quantization != "none" and not device.bitsandbytes:
        raise NotAvailable(
            f"load_in_4bit / quantization: {settings.quantization} weights need the package bitsandbytes.",
            "Install it with: pip install 'bitsandbytes>=0.48'",
        )
    if settings.compute_dtype == "bfloat16" and not device.bfloat16:
        raise NotAvailable("bf16: this GPU does not compute in bfloat16.", "Use dtype: float16, with fp16.")
    if settings.fp16 and settings.dtype == "bfloat16" or settings.bf16 and settings.dtype == "float16":
        mixed = "fp16" if settings.fp16 else "bf16"
        raise NotAvailable(
            f"{mixed}: mixed precision {settings.compute_dtype} over {settings.dtype} weights loses the range or the "
            f"digits of both.",
            f"Leave {mixed} out, or set dtype: {settings.compute_dtype}.",
        )


def _check_lora(training: Training, settings: Settings) -> None:
    lora = training.lora
    if lora.use_gradient_checkpointing == "unsloth" and settings.backend != "unsloth":
        raise NotAvailable("use_gradient_checkpointing: 'unsloth' needs the unsloth backend.", "Use true or false.")
    if "lm_head" in lora.target_modules:
        raise NotAvailable(
            "target_modules: trl computes the loss from lm_head's own weights, so a LoRA on lm_head would not train.",
            "Take lm_head out of target_modules.",
        )
    if lora.loftq_config is None:
        return
    if settings.quantization != "4bit":
        raise NotAvailable(
            "loftq_config: LoftQ makes up for the rounding of 4-bit weights, and these are not 4-bit.",
            "Use load_in_4bit: true (on a CUDA GPU), or leave loftq_config out.",
        )
    if lora.loftq_config != {"loftq_bits": 4, "loftq_iter": 1}:
        raise NotAvailable(
            f"loftq_config: {dict(lora.loftq_config)} cannot be put onto weights that are 4-bit already.",
            "Use {loftq_bits: 4, loftq_iter: 1}.",
        )


def lora_arguments(training: Training) -> dict[str, Any]:
    """Return the arguments of peft.LoraConfig."""
    lora = training.lora
    return {
        "r": lora.r,
        "target_modules": list(lora.target_modules),
        "lora_alpha": lora.lora_alpha,
        "lora_dropout": lora.lora_dropout,
        "bias": lora.bias,
        "use_rslora": lora.use_rslora,
        "task_type": "CAUSAL_LM",
    }


def trainer_arguments(training: Training, settings: Settings, output_dir: str) -> dict[str, Any]:
    """Return the arguments of trl.SFTConfig: the suite's keys, and what keeps the trainer quiet and on this machine."""
    trainer = training.trainer
    return {
        "output_dir": output_dir,
        "max_length": training.max_seq_length,
        "packing": trainer.packing,
        # One process means the trainer's own: `datasets` would start a pool even for one. Unsloth reads None as
        # "choose", and would start as many as there are cores.
        "dataset_num_proc": trainer.dataset_num_proc
        if trainer.dataset_num_proc > 1 or settings.backend == "unsloth"
        else None,
        "per_device_train_batch_size": trainer.per_device_train_batch_size,
        "gradient_accumulation_steps": trainer.gradient_accumulation_steps,
        "warmup_steps": trainer.warmup_steps,
        "max_steps": trainer.max_steps or -1,
        "num_train_epochs": trainer.num_train_epochs or 1,
        "learning_rate": trainer.learning_rate,
        "fp16": settings.fp16,
        "bf16": settings.bf16,
        "logging_steps": trainer.logging_steps,
        "optim": settings.optim,
        "weight_decay": trainer.weight_decay,
        "lr_scheduler_type": trainer.lr_scheduler_type,
        "seed": trainer.seed,
        "gradient_checkpointing": bool(training.lora.use_gradient_checkpointing),
        "use_cpu": settings.device == "cpu",
        "dataloader_pin_memory": settings.device == "cuda",
        # A loss that is not a number is a result; the trainer would show the last good one in its place.
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }


def settings_record(training: Training, settings: Settings) -> dict[str, Scalar | list[str]]:
    """Return every setting as it took effect, flat, for the result's record."""
    values: dict[str, Any] = {
        **training.data.model_dump(include={"prompt_format", "loss_on", "limit"}),
        "max_seq_length": training.max_seq_length,
        **training.lora.model_dump(exclude={"loftq_config"}),
        **training.trainer.model_dump(),
        "backend": settings.backend,
        "dtype": settings.dtype,
        "quantization": settings.quantization,
        "load_in_4bit": settings.quantization == "4bit",
        "fp16": settings.fp16,
        "bf16": settings.bf16,
        "optim": settings.optim,
        "loftq_config": json.dumps(training.lora.loftq_config) if training.lora.loftq_config else None,
    }
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
