"""The transformers + peft backend, on a CPU or a CUDA GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from harness.adapter_cache import rope_scaling_of
from harness.backends.on_cpu import check_on_cpu
from harness.backends.rope import scale_rope
from harness.backends.transformers_model import TransformersModel, prepare_tokenizer
from harness.errors import HarnessError, NotAvailable, reason_of
from harness.orders import WorkOrder
from harness.suite import Model


def load(order: WorkOrder) -> TransformersModel:
    """Load base model, tokenizer and adapter. NotAvailable says what is missing."""
    device = choose_device(order.model)
    model = load_base(order.model, order.model_place, device)
    if order.adapter_place and (factor := rope_scaling_of(Path(order.adapter_place))):
        scale_rope(model, factor)  # the adapter was trained with it
    tokenizer = prepare_tokenizer(load_tokenizer(order.model, order.model_place))
    return TransformersModel(order, model, tokenizer, device)


def choose_device(model: Model) -> str:
    """Return 'cuda' or 'cpu'. NotAvailable for what the machine cannot do, fp16 on a CPU included."""
    has_gpu = torch.cuda.is_available()
    if model.device == "cuda" and not has_gpu:
        raise NotAvailable("device: cuda was asked for, but torch sees no CUDA GPU.", "Use device: auto or cpu.")
    device = "cuda" if has_gpu and model.device != "cpu" else "cpu"
    if device == "cpu":
        check_on_cpu(model)
    return device


def load_base(model: Model, place: str, device: str) -> Any:
    """Load the weights, from safetensors only, in the model's dtype."""
    return _from_pretrained(
        "model",
        AutoModelForCausalLM,
        place,
        revision=model.revision,
        dtype=getattr(torch, model.dtype),
        attn_implementation=model.attention,
        quantization_config=_quantization(model),
        device_map={"": device},
        use_safetensors=True,
        trust_remote_code=model.trust_remote_code,
    )


def load_tokenizer(model: Model, place: str) -> Any:
    """Load the tokenizer that lies beside the weights."""
    remote_code = model.trust_remote_code
    return _from_pretrained("tokenizer", AutoTokenizer, place, revision=model.revision, trust_remote_code=remote_code)


def _from_pretrained(what: str, factory: Any, place: str, **arguments: Any) -> Any:
    try:
        return factory.from_pretrained(place, local_files_only=Path(place).is_dir(), **arguments)
    except SafetensorError as error:
        hint = "The file may be cut short; download or copy it again."
        raise HarnessError(f"{place}: the {what} could not be loaded: {reason_of(error)}", hint) from error
    except (OSError, ValueError, ImportError) as error:
        raise NotAvailable(f"{place}: the {what} could not be loaded: {reason_of(error)}") from error


def _quantization(model: Model) -> BitsAndBytesConfig | None:
    if model.quantization == "none":
        return None
    if model.quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, model.dtype),
    )
