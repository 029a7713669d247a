"""The LoRA ranks that vLLM can be started with, for its engine in a job and for `vllm serve` alike."""

from __future__ import annotations

from collections.abc import Iterable

VLLM_LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as its largest rank; a smaller adapter is served with the next larger one."""


def rank_that_holds(ranks: Iterable[int]) -> int:
    """Return the smallest rank vLLM can be started with that holds adapters of these; the largest if none does."""
    largest = max(ranks)
    return next((allowed for allowed in VLLM_LORA_RANKS if allowed >= largest), largest)
