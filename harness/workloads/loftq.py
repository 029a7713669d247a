"""LoftQ: start LoRA as what 4-bit rounding took away from the weights (Li et al. 2023, arXiv:2310.08659, one step).

peft's own routine takes the whole singular value decomposition of every layer, which for an 8B model runs for many
minutes, and needs a LoRA scale of 1. Only the first `r` singular vectors are used, so they alone are computed here
(Halko et al. 2011, randomized, in torch.svd_lowrank), for any scale.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

OVERSAMPLING = 16
POWER_ITERATIONS = 4


@torch.no_grad()
def start_from_rounding_error(model: Any, place: str) -> float:
    """Set the LoRA matrices of a 4-bit `model` to the best approximation of its rounding error.

    `place` has the unrounded weights as safetensors: a local folder, or a hub name in the local cache. Returns the
    share of the error (squared, over all layers) that is left; 1 would be plain LoRA.
    """
    import bitsandbytes
    from peft.tuners.lora import Linear4bit
    from peft.utils.loftq_utils import _SafetensorLoader

    loader = _SafetensorLoader(model, place if Path(place).is_dir() else None)
    whole = left = 0.0
    for name, layer in model.named_modules():
        if not isinstance(layer, Linear4bit):
            continue
        rounded = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
        exact = loader.get_tensor(name.removeprefix("base_model.model.") + ".weight")
        error = exact.to(rounded.device, torch.float32) - rounded
        a, b = best_factors(error, layer.r["default"], layer.scaling["default"])
        lora_a, lora_b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
        lora_a.copy_(a)
        lora_b.copy_(b)
        whole += float(error.square().sum())
        left += float((error - layer.scaling["default"] * (b @ a)).square().sum())
    return left / whole


def best_factors(matrix: torch.Tensor, rank: int, scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A (rank, columns) and B (rows, rank) so that scale * B A is the best approximation of `matrix` (float32).

    Best up to the randomized method's error, a few per mille of the optimum.
    """
    wide = min(rank + OVERSAMPLING, *matrix.shape)
    left, values, right = torch.svd_lowrank(matrix, q=wide, niter=POWER_ITERATIONS)
    roots = (values[:rank] / scale).sqrt()
    return roots[:, None] * right[:, :rank].T, left[:, :rank] * roots
