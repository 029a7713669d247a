"""Small pieces of a model as one kernel each, where they are about thirty a layer as written.

torch has a kernel for norms, which serves for reading prompts. For the step that is recorded, norms and the rotary
embedding are compiled: that takes seconds where compiling a whole model takes half a minute, and torch keeps the
compiled kernels on disk.
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

ROTARY = "apply_rotary_pos_emb"
EPSILON_NAMES = ("variance_epsilon", "eps")
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
def compiled_pieces(model: Any) -> Iterator[None]:
    """Run the model's norms and rotary embedding compiled; they are as they were again afterwards.

    On the few rows of a decoding step the compiled norm is the faster one (docs/log.md).
    """
    norms = [module for module in model.modules() if type(module).__name__.endswith("RMSNorm")]
    before = [module.__dict__.get("forward") for module in norms]
    modeling = sys.modules[type(model).__module__]
    rotary = getattr(modeling, ROTARY, None)
    for norm in norms:
        norm.forward = functools.partial(_compiled(type(norm).forward), norm)
    if rotary is not None:
        setattr(modeling, ROTARY, _compiled(rotary))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # hints of the compiler to itself
            yield
    finally:
        for norm, forward in zip(norms, before, strict=True):
            del norm.forward
            if forward is not None:
                norm.forward = forward
        if rotary is not None:
            setattr(modeling, ROTARY, rotary)


@functools.cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False)
