"""The shape of a loaded torch model, read from its layers in memory, so that what is stored is what is counted."""

from __future__ import annotations

from typing import Any

from harness.model_cost import ModelShape

FEWEST_COVERED = 0.95
"""Share of the weights that must be in matrix products; else the model has a kind of layer that is not counted."""


def model_shape(model: Any, cache_element_bytes: int) -> ModelShape | None:
    """Return the shape of a causal language model; None where it has layers that the formulas do not know."""
    config = model.config.get_text_config()
    head = model.get_output_embeddings()
    tables, products = _tables_and_products(model)
    body = {name: module for name, module in products.items() if module is not head}
    counted = {id(parameter) for module in (*tables, *products.values()) for parameter in module.parameters()}
    others = sum(parameter.numel() for parameter in model.parameters() if id(parameter) not in counted)
    body_parameters = sum(_weights(module) for module in body.values())
    if head is None or body_parameters < FEWEST_COVERED * (body_parameters + others):
        return None
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    key_value_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    return ModelShape(
        layers=config.num_hidden_layers,
        query_width=config.num_attention_heads * head_size,
        key_value_width=key_value_heads * head_size,
        body_parameters=body_parameters,
        head_parameters=_weights(head),
        lora_parameters=sum(_weights(module) for name, module in body.items() if "lora_" in name),
        body_bytes=sum(_bytes(module) for module in body.values()),
        head_bytes=_bytes(head),
        cache_element_bytes=cache_element_bytes,
    )


def torch_model(subject: Any) -> Any:
    """Return the torch model inside a backend or engine, found along attributes called `model`; None without one."""
    import torch

    while subject is not None and not isinstance(subject, torch.nn.Module):
        subject = getattr(subject, "model", None)
    return subject


def _tables_and_products(model: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the embedding tables, and by name the modules that multiply by a matrix of their own."""
    import torch

    tables, products = [], {}
    for name, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False)).get("weight")  # peft's layers show that of another as theirs
        if isinstance(module, torch.nn.Embedding):
            tables.append(module)
        elif isinstance(module, torch.nn.Linear) or (own is not None and own.ndim == 2):
            products[name] = module
    return tables, products


def _weights(module: Any) -> int:
    """Weights of a matrix product; a 4-bit layer packs two into a byte, so its tensor has half as many entries."""
    if hasattr(module, "in_features"):
        return int(module.in_features * module.out_features)
    return int(module.weight.numel())


def _bytes(module: Any) -> int:
    """Bytes of a layer's parameters as they are stored, scales of quantized blocks included."""
    total = 0
    for parameter in module.parameters(recurse=False):
        total += parameter.numel() * parameter.element_size()
        state = getattr(parameter, "quant_state", None)
        for level in (state, getattr(state, "state2", None)):  # scales, and the scales of the scales
            if level is not None:
                total += level.absmax.numel() * level.absmax.element_size()
        row_scales = getattr(parameter, "SCB", None)
        if row_scales is not None:
            total += row_scales.numel() * row_scales.element_size()
    return total
