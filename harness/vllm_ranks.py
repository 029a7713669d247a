"""The LoRA ranks that vLLM can be started with, for its engine in a job and for `vllm serve` alike."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.adapter_cache import ADAPTER_FILES

VLLM_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as its largest rank; a smaller adapter is served with the next larger one."""


def rank_that_holds(adapters: Iterable[str]) -> int:
    """Return the smallest rank vLLM can be started with that holds the adapters at these places (folders, hub names).

    Theirs, where it is larger than any of vLLM's. A hub's adapter is not looked into: vLLM will say what it lacks.
    """
    largest = max(_largest_rank(adapter_config(place)) for place in adapters)
    return next((allowed for allowed in VLLM_LORA_RANKS if allowed >= largest), largest)


def adapter_config(place: str) -> dict[str, Any]:
    """Return what an adapter's folder says of it; nothing for a hub name."""
    file = Path(place) / ADAPTER_FILES[0]
    config: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return config


def _largest_rank(config: dict[str, Any]) -> int:
    """Return the largest rank of any layer: some may have more than the adapter's `r`."""
    ranks = [config.get("r", VLLM_LORA_RANKS[0]), *(config.get("rank_pattern") or {}).values()]
    return max(map(int, ranks))
