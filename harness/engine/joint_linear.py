"""Linear layers with the same input as one product, with LoRA by rows.

A decoding step is a row of matrix products so small that starting one costs a good part of running it. Query, key and
value, or gate and up, read the same input: one product with their weights side by side gives all of them. An adapter
adds x A^T B^T (alpha / r) (Hu et al. 2021, https://arxiv.org/abs/2106.09685) to its own rows of the batch alone, so
that base and tuned rows share the product with the base's weights; the A of several layers lie side by side too, their
B in blocks along a diagonal. Rows of one adapter are neighbours: slices need no index and can be recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional
from torch import nn

from harness.engine import EngineUnsuited

Span = tuple[int, int]
SAME_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


@dataclass
class RowPlan:
    """Which rows of the present batch belong to which adapter: name -> [start, end). `count` is how many there are."""

    spans: dict[str, Span]
    count: int = 0


class JointLinear(nn.Module):
    """Several linear layers with one input: (rows, tokens, in) to (rows, tokens, sum of their outs).

    Some models hand their MLP all tokens in a line, (rows * tokens, in); the outputs then lie in one as well.
    """

    def __init__(self, layers: Sequence[Any], rows: RowPlan) -> None:
        super().__init__()
        bases = [getattr(layer, "base_layer", layer) for layer in layers]
        self.weight = nn.Parameter(torch.cat([base.weight.detach() for base in bases]), requires_grad=False)
        biases = [base.bias.detach() for base in bases if base.bias is not None]
        self.bias = nn.Parameter(torch.cat(biases), requires_grad=False) if biases else None
        ends = torch.tensor([base.out_features for base in bases]).cumsum(0).tolist()
        self.parts = list(zip([0, *ends[:-1]], ends, strict=True))
        self.rows = rows
        names = dict.fromkeys(name for layer in layers for name in getattr(layer, "lora_A", {}))
        self.updates = {name: self._update(layers, name) for name in names}
        self._input: torch.Tensor | None = None
        self._output: torch.Tensor | None = None

    def _update(self, layers: Sequence[Any], name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return an adapter's A side by side, (in, ranks), and its scaled B along a diagonal, (ranks, outs)."""
        downs, blocks = [], []
        for layer, (start, end) in zip(layers, self.parts, strict=True):
            if name in getattr(layer, "lora_A", {}):
                downs.append(layer.lora_A[name].weight.detach().t())
                up = layer.lora_B[name].weight.detach().t() * layer.scaling[name]
                blocks.append(functional.pad(up, (start, self.weight.shape[0] - end)))
        dtype = self.weight.dtype
        return torch.cat(downs, dim=1).to(dtype).contiguous(), torch.cat(blocks).to(dtype).contiguous()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return all outputs side by side."""
        result = functional.linear(x, self.weight, self.bias)
        for name, (start, end) in self.rows.spans.items():
            if end > start and name in self.updates:
                down, up = self.updates[name]
                each = x.shape[0] // self.rows.count  # 1, or the tokens of a row where all tokens are in a line
                place = slice(start * each, end * each)
                part = result[place].view(-1, result.shape[-1])
                part.addmm_(x[place].reshape(-1, x.shape[-1]) @ down, up)
        return result

    def take(self, x: torch.Tensor, number: int) -> torch.Tensor:
        """Return one layer's output; the product is made when the first of them is asked for."""
        if self._input is not x or self._output is None:
            self._input, self._output = x, self(x)
        start, end = self.parts[number]
        output = self._output[..., start:end]
        if number == len(self.parts) - 1:
            self._input = self._output = None
        return output


class _Part(nn.Module):
    """Stands where one of the layers stood."""

    def __init__(self, joint: JointLinear, number: int) -> None:
        super().__init__()
        self.joint, self.number = joint, number

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.joint.take(x, self.number)


def join_linears(model: Any, rows: RowPlan) -> None:
    """Join the layers of the same input in a bare model, and take every LoRA layer apart from peft.

    EngineUnsuited for adapters that are more than A and B beside plain linear layers.
    """
    for parent in list(model.modules()):
        children = dict(parent.named_children())
        for names in SAME_INPUT:
            if all(_is_plain(children.get(name)) for name in names):
                _join(parent, names, rows)
        for name, child in parent.named_children():
            if hasattr(child, "lora_A"):
                if not _is_plain(child):
                    raise EngineUnsuited(f"{name} is a {type(child).__name__} that is more than A and B matrices")
                _join(parent, (name,), rows)
    if any("modules_to_save" in name for name, _ in model.named_modules()):
        raise EngineUnsuited("an adapter brings layers of its own (modules_to_save)")


def _is_plain(layer: Any) -> bool:
    """Say whether it is a linear layer without or with ordinary LoRA."""
    if type(layer) is nn.Linear:
        return True
    if not hasattr(layer, "lora_A") or type(layer.base_layer) is not nn.Linear:
        return False
    special = (*layer.use_dora.values(), *layer.lora_bias.values(), *layer.lora_variant.values())
    return not any(special)


def _join(parent: Any, names: Sequence[str], rows: RowPlan) -> None:
    layers = [getattr(parent, name) for name in names]
    biased = {getattr(layer, "base_layer", layer).bias is not None for layer in layers}
    if len(biased) > 1:
        return
    joint = JointLinear(layers, rows)
    for number, name in enumerate(names):
        setattr(parent, name, _Part(joint, number))
