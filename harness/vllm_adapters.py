"""What vLLM takes of LoRA adapters, for its engine in a job and for `vllm serve` alike."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.adapter_cache import ADAPTER_FILES

VLLM_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as its largest rank; a smaller adapter is served with the next larger one."""
NOT_IN_VLLM = {"use_dora": "DoRA", "modules_to_save": "whole trained layers (modules_to_save)"}
PEFT_DEFAULTS = {"r": 8, "lora_alpha": 8}


def not_taken(adapter: str) -> str | None:
    """Return what the adapter at this place has that vLLM does not do; None where there is nothing, or on a hub.

    vLLM (0.24) scales every layer by the adapter's own lora_alpha and r, so patterns that scale a layer otherwise would
    be answered wrongly without a word.
    """
    config = _config(adapter)
    for key, what in NOT_IN_VLLM.items():
        if config.get(key):
            return what
    return "layers scaled apart (rank_pattern, alpha_pattern)" if _scales_apart(config) else None


def rank_that_holds(adapters: Iterable[str]) -> int:
    """Return the smallest rank vLLM can be started with that holds the adapters at these places (folders, hub names).

    Theirs, where it is larger than any of vLLM's. A hub's adapter is not looked into: vLLM will say what it lacks.
    """
    largest = max(_largest_rank(_config(place)) for place in adapters)
    return next((allowed for allowed in VLLM_LORA_RANKS if allowed >= largest), largest)


def _config(place: str) -> dict[str, Any]:
    """Return what an adapter's folder says of it; for a hub name the defaults."""
    file = Path(place) / ADAPTER_FILES[0]
    return PEFT_DEFAULTS | (json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {})


def _largest_rank(config: dict[str, Any]) -> int:
    """Return the largest rank of any layer: some may have more than the adapter's `r`."""
    return max(map(int, [config["r"], *(config.get("rank_pattern") or {}).values()]))


def _scales_apart(config: dict[str, Any]) -> bool:
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}

    def scale(alpha: float, rank: float) -> float:
        return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)

    own = scale(config["lora_alpha"], config["r"])
    patterns = ((alphas.get(key, config["lora_alpha"]), ranks.get(key, config["r"])) for key in ranks | alphas)
    return not all(math.isclose(scale(*pattern), own) for pattern in patterns)
