"""The unsloth backend. The one module that imports unsloth, which must come before transformers, trl and peft.

Importing it patches those libraries for the whole process, so a job that uses it shares its process with no other.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any, Literal

from harness.adapter_cache import rope_scaling_of
from harness.errors import NotAvailable, reason_of
from harness.orders import WorkOrder
from harness.suite import Lora, Model

_compiled_code = tempfile.TemporaryDirectory(prefix="unsloth-")  # else unsloth writes into the current folder
os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", _compiled_code.name)
os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")  # loading a model would report this machine to a hub
os.environ.setdefault("UNSLOTH_DISABLE_CPU_FALLBACK", "1")  # its CPU mode is the hf backend under another name
try:
    from unsloth import FastLanguageModel
except (ImportError, NotImplementedError, RuntimeError) as error:  # without a GPU unsloth refuses to be imported
    raise NotAvailable(
        f"backend: unsloth could not be imported ({reason_of(error)}).",
        "It needs a CUDA GPU and: pip install 'korean-lora-harness[gpu]'. The hf backend works without.",
    ) from error

from harness.backends.transformers_model import TransformersModel, prepare_tokenizer  # noqa: E402  (after unsloth)


def load(order: WorkOrder) -> TransformersModel:
    """Load base model, tokenizer and adapter for generation, with unsloth's own inference kernels switched on."""
    from harness.backends.hf import choose_device, load_tokenizer

    model = order.model
    choose_device(model.model_copy(update={"device": "cuda"}))  # says so where there is no GPU
    base = load_base(model, order.model_place, _length(order), seed=order.sampling.seed)
    FastLanguageModel.for_inference(base)
    loaded = TransformersModel(order, base, prepare_tokenizer(load_tokenizer(model, order.model_place)), "cuda")
    FastLanguageModel.for_inference(loaded.model)  # again, for the layers that the adapter replaced
    return loaded


def _length(order: WorkOrder) -> int:
    """Return the longest sequence to load for: no more than the window, or unsloth would scale RoPE unasked."""
    from transformers import AutoConfig

    model = order.model
    config = AutoConfig.from_pretrained(
        order.model_place, revision=model.revision, trust_remote_code=model.trust_remote_code
    )
    window = int(config.get_text_config().max_position_embeddings)
    if order.adapter_place and (factor := rope_scaling_of(Path(order.adapter_place))):
        return int(window * factor)  # the adapter was trained with it
    return min(model.max_seq_length, window)


def load_base(
    model: Model, place: str, max_seq_length: int, seed: int, checkpointing: bool | Literal["unsloth"] = False
) -> Any:
    """Load the base. Unsloth scales RoPE by itself where max_seq_length is beyond the model's window.

    It patches gradient checkpointing while it loads, so that has to be known here already.
    """
    local = {"local_files_only": True} if Path(place).is_dir() else {}
    try:
        loaded, _ = FastLanguageModel.from_pretrained(
            model_name=place,
            revision=model.revision,
            max_seq_length=max_seq_length,
            dtype=_torch_dtype(model.dtype),
            load_in_4bit=model.quantization == "4bit",
            load_in_8bit=model.quantization == "8bit",
            # A name stands for one set of weights; unsloth would take another repository's ready-made 4-bit ones.
            use_exact_model_name=True,
            random_state=seed,
            trust_remote_code=model.trust_remote_code,
            use_gradient_checkpointing=checkpointing,
            **local,
        )
    except (OSError, ValueError, RuntimeError) as error:
        reason = reason_of(error)
        raise NotAvailable(f"{place}: unsloth could not load the model: {reason}") from error
    return loaded


def add_lora(model: Any, arguments: dict[str, Any], lora: Lora, max_seq_length: int) -> Any:
    """Put new LoRA matrices on the model; `arguments` are those of peft.LoraConfig."""
    return FastLanguageModel.get_peft_model(
        model,
        **{name: value for name, value in arguments.items() if name != "task_type"},
        use_gradient_checkpointing=lora.use_gradient_checkpointing,
        random_state=lora.random_state,
        max_seq_length=max_seq_length,
    )


def _torch_dtype(name: str) -> Any:
    import torch

    return getattr(torch, name)
