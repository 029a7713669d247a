"""Stretching a model's rotary positions (RoPE), so that it takes texts longer than it was made for."""

from __future__ import annotations

from typing import Any

from harness.errors import NotAvailable


def scale_rope(model: Any, factor: float) -> None:
    """Divide the rotary positions of a loaded model by `factor` (linear scaling, also called position interpolation).

    Position n then looks to the model like n / factor. An adapter trained so must be used so.
    Raises `NotAvailable` for a model whose positions are not plain RoPE.
    """
    config = model.config.get_text_config()
    parameters = getattr(config, "rope_parameters", None) or {}
    rotary = [(name, module) for name, module in model.named_modules() if hasattr(module, "rope_type")]
    if parameters.get("rope_type") != "default" or not rotary:
        raise NotAvailable(
            f"max_seq_length: {type(model).__name__} takes {config.max_position_embeddings} tokens, and its positions "
            "are not of the kind that can be scaled.",
            "Lower max_seq_length.",
        )
    config.rope_parameters = {**parameters, "rope_type": "linear", "factor": factor}
    config.max_position_embeddings = int(config.max_position_embeddings * factor)
    for name, module in rotary:
        parent, _, own_name = name.rpartition(".")
        setattr(model.get_submodule(parent), own_name, type(module)(config=config).to(model.device))
