"""Which engine answers a suite, and which models share a job. Pure, and without torch: a plan needs it.

An engine pays if the seconds it saves on the suite's tokens are more than the seconds of its warm-up.
"""

from __future__ import annotations

import importlib.util

from harness.records import Environment
from harness.suite import Model, Suite

FAST_PAYS_FROM_TOKENS = 30_000
"""On a GPU: a warm-up of some 10 s against the plain path's rate (docs/engines.md)."""
VLLM_PAYS_FROM_TOKENS = 10_000_000
"""vLLM starts some two minutes later than the fast engine and saves about ten seconds a million tokens
(docs/engines.md)."""

MODELS_PER_JOB = 8
"""So many adapters share a job at most: more would leave each few rows, and other machines nothing to do."""


def generation_groups(suite: Suite, prompts: int, environment: Environment) -> list[tuple[tuple[str, ...], str]]:
    """Return (models that share a job, their engine). Only an engine answers for several models in one pass."""
    groups: list[tuple[tuple[str, ...], str]] = []
    for names in _same_weights(suite):
        engine = choose_engine(suite, suite.models[names[0]], prompts * len(names), environment)
        groups += [((name,), engine) for name in names] if engine == "plain" else [(names, engine)]
    return groups


def choose_engine(suite: Suite, model: Model, answers: int, environment: Environment) -> str:
    """Return the engine that the suite names, or for auto the one that pays for so many answers."""
    sampling = suite.sampling
    if model.backend != "hf" or model.quantization != "none":
        return "plain"
    if sampling.engine != "auto":
        return sampling.engine
    if not environment.gpus or model.device == "cpu":
        return "fast"  # nothing is compiled or recorded there, so it costs nothing
    tokens = answers * sampling.max_new_tokens
    if tokens >= VLLM_PAYS_FROM_TOKENS and importlib.util.find_spec("vllm") and not _merges(model):
        return "vllm"
    return "fast" if tokens >= FAST_PAYS_FROM_TOKENS else "plain"


def _same_weights(suite: Suite) -> list[tuple[str, ...]]:
    """Group models that differ in nothing but an attached adapter, in the suite's order."""
    groups: dict[str, list[str]] = {}
    for name, model in suite.models.items():
        alike = model.model_dump_json(exclude={"adapter", "like", "compare_to"})
        key = name if model.backend != "hf" or _merges(model) else alike
        groups.setdefault(key, []).append(name)
    return [tuple(part) for names in groups.values() for part in _parts(names, MODELS_PER_JOB)]


def _parts(names: list[str], size: int) -> list[list[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]


def _merges(model: Model) -> bool:
    return model.adapter is not None and model.adapter.mode == "merged"
