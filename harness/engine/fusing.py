"""Small pieces of a model as one kernel each, where they are about thirty a layer as written.

torch has a kernel for norms, which serves for reading prompts. For the step that is recorded, norms, the rotary
embedding, the product of an MLP's gate and the storing of keys and values are compiled: that takes seconds where
compiling a whole model takes half a minute, and torch keeps the compiled kernels on disk.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as functional
from transformers.activations import SiLUActivation

from harness.engine.slots import SlotCache, store_step

ROTARY = "apply_rotary_pos_emb"
EPSILON_NAMES = ("variance_epsilon", "eps")
MOST_SHAPES = 64
"""Pieces are compiled anew for each number of rows; past torch's own limit of 8 they would run uncompiled."""
UNITS_IN_THE_LAST_PLACE = 4
"""How far torch's norm may be from the model's own: both compute in float32 and round at different places."""


def fuse_norms(model: Any) -> None:
    """Let torch's own kernel do every norm that computes the same (Zhang and Sennrich 2019, arXiv:1910.07467)."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm") and _is_ordinary(module):
            shape, epsilon = module.weight.shape, _epsilon(module)
            module.forward = functools.partial(_rms_norm, shape=tuple(shape), weight=module.weight, epsilon=epsilon)


def _rms_norm(x: torch.Tensor, shape: tuple[int, ...], weight: torch.Tensor, epsilon: float) -> torch.Tensor:
    return functional.rms_norm(x, shape, weight, epsilon)


def _epsilon(module: Any) -> float:
    return next(float(getattr(module, name)) for name in EPSILON_NAMES if hasattr(module, name))


def _is_ordinary(module: Any) -> bool:
    """Say whether the module computes x / rms(x) * weight: some add one to the weight, or have none."""
    weight = getattr(module, "weight", None)
    if weight is None or not any(hasattr(module, name) for name in EPSILON_NAMES):
        return False
    generator = torch.Generator(weight.device).manual_seed(0)
    probe = torch.randn((3, *weight.shape), generator=generator, device=weight.device).to(weight.dtype)
    with torch.inference_mode():
        own = module(probe)
        ours = _rms_norm(probe, tuple(weight.shape), weight, _epsilon(module))
    tolerance = UNITS_IN_THE_LAST_PLACE * torch.finfo(weight.dtype).eps
    return bool(torch.allclose(own.float(), ours.float(), rtol=tolerance, atol=tolerance))


@contextlib.contextmanager
def compiled_pieces(model: Any, cache: SlotCache) -> Iterator[None]:
    """Run the small pieces of the model and its cache compiled; they are as they were again afterwards.

    On the few rows of a decoding step the compiled norm is faster than torch's own (docs/log.md).
    """
    forwards: list[tuple[Any, Callable[..., torch.Tensor]]] = [
        (module, functools.partial(_compiled(type(module).forward), module))
        for module in model.modules()
        if type(module).__name__.endswith("RMSNorm")
    ]
    forwards += [(module, functools.partial(_gated, module)) for module in model.modules() if _is_gated(module)]
    modeling = sys.modules[type(model).__module__]
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch._dynamo.config.patch(recompile_limit=MOST_SHAPES))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # hints of the compiler to itself
        for module, forward in forwards:
            stack.enter_context(_replaced(module, "forward", forward))
        if hasattr(modeling, ROTARY):
            stack.enter_context(_replaced(modeling, ROTARY, _compiled(getattr(modeling, ROTARY))))
        stack.enter_context(_replaced(cache, "store", _compiled(store_step)))
        yield


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    own, before = name in vars(owner), getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        delattr(owner, name)  # an instance shows its class's again
        if own:
            setattr(owner, name, before)


def _is_gated(module: Any) -> bool:
    """Say whether the module is an MLP with a gate (Shazeer 2020, arXiv:2002.05202) under the usual names."""
    return isinstance(getattr(module, "act_fn", None), torch.nn.SiLU | SiLUActivation) and all(
        hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj")
    )


def _gated(module: Any, x: torch.Tensor) -> torch.Tensor:
    output: torch.Tensor = module.down_proj(_compiled(_swish_product)(module.gate_proj(x), module.up_proj(x)))
    return output


def _swish_product(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    return functional.silu(gate) * up


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False)
