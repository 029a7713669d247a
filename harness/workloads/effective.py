"""What training really does: precisions, packing and checkpointing as they took effect, not as they were asked for."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch

from harness.errors import NotAvailable, PrecisionMismatch
from harness.records import Scalar


def weights_dtype(model: Any) -> str:
    """Return the dtype of most of the base's weights that are stored as floating point numbers."""
    sizes: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and "lora_" not in name:
            sizes[_name(parameter.dtype)] += parameter.numel()
    return sizes.most_common(1)[0][0]


def lora_dtype(model: Any) -> str:
    """Return the dtype of the LoRA matrices, or all of them, parted by a comma."""
    return ", ".join(sorted({_name(value.dtype) for name, value in model.named_parameters() if "lora_" in name}))


@contextlib.contextmanager
def checked_precision(model: Any, device: str, requested: str) -> Iterator[dict[str, Scalar]]:
    """Watch every forward pass; yield what is seen: weights_dtype, lora_dtype, autocast_dtype, layer_output_dtype.

    Raises `PrecisionMismatch` at the first pass that does not compute in `requested`. Two signs are read: what matrix
    products take (autocast where it is on, else the weights' own dtype) and what the first decoder layer puts out.
    Float32 layer outputs are allowed under autocast: that is how mixed precision over float32 weights looks.
    """
    stored = weights_dtype(model)
    seen: dict[str, Scalar] = {"weights_dtype": stored, "lora_dtype": lora_dtype(model)}

    def compare(effective: str) -> None:
        if effective != requested:
            raise PrecisionMismatch(f"Training was asked for in {requested}, but it computes in {effective}.")

    def before_embeddings(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        autocast = _name(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else None
        seen["autocast_dtype"] = autocast or "off"
        compare(autocast or stored)

    def after_layer(module: torch.nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        tensor = output[0] if isinstance(output, tuple) else output
        seen["layer_output_dtype"] = _name(tensor.dtype)
        if tensor.dtype != torch.float32:
            compare(_name(tensor.dtype))

    hooks = [model.get_input_embeddings().register_forward_pre_hook(before_embeddings)]
    layer = _first_layer(model)
    if layer is not None:
        # On the layer and not inside it: some backends compile a layer's inside, where a hook would split the graph.
        hooks.append(layer.register_forward_hook(after_layer))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _first_layer(model: Any) -> torch.nn.Module | None:
    """Return the first member of a list of layers that has LoRA inside."""
    for name, _ in model.named_parameters():
        parts = name.split(".")
        if "lora_A" not in parts:
            continue
        for end in range(1, len(parts)):
            if isinstance(model.get_submodule(".".join(parts[: end - 1])), torch.nn.ModuleList):
                return model.get_submodule(".".join(parts[:end]))  # type: ignore[no-any-return]
    return None


def trainer_effects(trainer: Any) -> dict[str, Scalar]:
    """Return packing, padding-free batches and mixed precision as the trainer has them after its own changes."""
    arguments = trainer.args
    return {
        "packing_effective": bool(arguments.packing),
        "padding_free_effective": bool(arguments.padding_free),
        "fp16_effective": bool(arguments.fp16),
        "bf16_effective": bool(arguments.bf16),
        "attention_effective": str(getattr(trainer.model.config, "_attn_implementation", "")),
    }


def check_packing_kept(asked: bool, effects: dict[str, Scalar]) -> None:
    """NotAvailable where packing was asked for and the trainer dropped it."""
    if asked and not effects["packing_effective"]:
        raise NotAvailable("packing: the trainer cannot pack rows for this model.", "Set packing: false.")


def checkpointing_effect(model: Any) -> str:
    """Return how activations are recomputed: off, on, or the name of another way."""
    flags = {getattr(module, "gradient_checkpointing", False) for module in model.modules()} - {False}
    return "off" if not flags else ", ".join(sorted("on" if flag is True else str(flag) for flag in flags))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
