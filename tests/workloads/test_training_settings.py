"""What a machine does with a training step's settings: decided without a model, so every machine can be asked about."""

from __future__ import annotations

from typing import Any

import pytest

from harness.errors import NotAvailable
from harness.suite import Lora, Model, Trainer, Training, TrainingData
from harness.workloads.training_settings import Device, Settings, lora_arguments, resolve, trainer_arguments

CPU = Device("cpu", bfloat16=True, bitsandbytes=False)
GPU = Device("cuda", bfloat16=True, bitsandbytes=True)
OLD_GPU = Device("cuda", bfloat16=False, bitsandbytes=True)
BARE_GPU = Device("cuda", bfloat16=True, bitsandbytes=False)
LOFTQ = {"loftq_config": {"loftq_bits": 4, "loftq_iter": 1}}
LOFTQ_8BIT = {"loftq_config": {"loftq_bits": 8, "loftq_iter": 1}}


def training(lora: dict[str, Any] | None = None, trainer: dict[str, Any] | None = None, **keys: Any) -> Training:
    return Training(
        model="base",
        data=TrainingData(path="rows.jsonl"),
        lora=Lora(**(lora or {})),
        trainer=Trainer(**{"max_steps": 60, **(trainer or {})}),
        **keys,
    )


def settings(device: Device, model: dict[str, Any] | None = None, **keys: Any) -> Settings:
    return resolve(training(**keys), Model(path="model", **(model or {})), device)


@pytest.mark.parametrize(
    ("device", "model", "keys", "expected"),
    [
        (CPU, {}, {}, ("float32", False, False)),
        (CPU, {"dtype": "bfloat16"}, {}, ("bfloat16", False, True)),
        (CPU, {}, {"trainer": {"bf16": True}}, ("bfloat16", False, True)),
        (CPU, {"dtype": "bfloat16"}, {"dtype": "float32"}, ("float32", False, False)),
        (CPU, {"dtype": "bfloat16"}, {"trainer": {"bf16": False}}, ("bfloat16", False, False)),
        (GPU, {"dtype": "float16"}, {}, ("float16", True, False)),
        (OLD_GPU, {"dtype": "float16"}, {}, ("float16", True, False)),
        (GPU, {}, {"trainer": {"fp16": True}}, ("float16", True, False)),
    ],
)
def test_mixed_precision_follows_the_dtype_unless_told(
    device: Device, model: dict[str, Any], keys: dict[str, Any], expected: tuple[str, bool, bool]
) -> None:
    found = settings(device, model, **keys)
    assert (found.compute_dtype, found.fp16, found.bf16) == expected


@pytest.mark.parametrize(
    ("model", "keys", "quantization"),
    [
        ({}, {}, "none"),
        ({"quantization": "4bit"}, {}, "4bit"),
        ({"quantization": "8bit"}, {}, "8bit"),
        ({}, {"load_in_4bit": True}, "4bit"),
        ({"quantization": "4bit"}, {"load_in_4bit": False}, "none"),
        ({"quantization": "8bit"}, {"load_in_4bit": True}, "4bit"),
    ],
)
def test_quantization_follows_the_model_unless_told(
    model: dict[str, Any], keys: dict[str, Any], quantization: str
) -> None:
    assert settings(GPU, model, **keys).quantization == quantization


def test_the_optimizer_is_kept_where_bitsandbytes_runs_and_replaced_elsewhere() -> None:
    assert (settings(GPU).optim, settings(GPU).substitutions) == ("adamw_8bit", {})
    on_cpu, without = settings(CPU), settings(BARE_GPU)
    assert on_cpu.optim == without.optim == "adamw_torch"
    assert "need a CUDA GPU" in on_cpu.substitutions["optim"]
    assert "not installed" in without.substitutions["optim"]
    assert settings(CPU, trainer={"optim": "sgd"}).substitutions == {}


@pytest.mark.parametrize(
    ("device", "model", "keys", "part"),
    [
        (CPU, {"dtype": "float16"}, {}, "fp16: float16 training needs a CUDA GPU"),
        (CPU, {"quantization": "4bit"}, {}, "4bit weights need bitsandbytes and a CUDA GPU"),
        (BARE_GPU, {}, {"load_in_4bit": True}, "need the package bitsandbytes"),
        (OLD_GPU, {"dtype": "bfloat16"}, {}, "does not compute in bfloat16"),
        (OLD_GPU, {}, {"trainer": {"bf16": True}}, "does not compute in bfloat16"),
        (GPU, {"dtype": "bfloat16"}, {"trainer": {"fp16": True}}, "fp16: mixed precision float16 over bfloat16"),
        (GPU, {"dtype": "float16"}, {"trainer": {"bf16": True}}, "bf16: mixed precision bfloat16 over float16"),
        (GPU, {}, {"lora": LOFTQ}, "these are not 4-bit"),
        (
            GPU,
            {},
            {"load_in_4bit": True, "lora": LOFTQ_8BIT},
            "'loftq_bits': 8",
        ),
    ],
)
def test_what_cannot_be_honoured_is_named(
    device: Device, model: dict[str, Any], keys: dict[str, Any], part: str
) -> None:
    with pytest.raises(NotAvailable) as caught:
        settings(device, model, **keys)
    assert part in caught.value.message
    assert caught.value.hint


def test_the_published_recipe_is_taken_as_it_stands() -> None:
    """The defaults are the published recipe; a GPU with bitsandbytes and unsloth does all of it."""
    recipe = training(lora={"use_gradient_checkpointing": "unsloth"}, load_in_4bit=True, backend="unsloth")
    decided = resolve(recipe, Model(path="unsloth/Meta-Llama-3.1-8B", dtype="bfloat16"), GPU)
    assert decided.substitutions == {}
    arguments = trainer_arguments(recipe, decided, "outputs")
    expected = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 4,
        "warmup_steps": 5,
        "max_steps": 60,
        "learning_rate": 2e-4,
        "fp16": False,
        "bf16": True,
        "logging_steps": 1,
        "optim": "adamw_8bit",
        "weight_decay": 0.01,
        "lr_scheduler_type": "linear",
        "seed": 3407,
        "packing": False,
        "max_length": 2048,
        "use_cpu": False,
    }
    assert {key: arguments[key] for key in expected} == expected
    assert lora_arguments(recipe) == {
        "r": 16,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        "lora_alpha": 16,
        "lora_dropout": 0,
        "bias": "none",
        "use_rslora": False,
        "task_type": "CAUSAL_LM",
    }
