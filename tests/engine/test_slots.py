"""Attention of a decoding step by filled blocks, the GPU's way, against plain attention over each row's own tokens.

What is fused on a GPU is computed unfused here: the blocks that are read and the mask inside them are the same.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as functional
from torch.nn.attention.flex_attention import flex_attention
from transformers import LlamaConfig

from harness.engine import slots
from harness.engine.slots import BLOCK, FilledBlocks, SlotCache, slot_attention

HEADS, KEY_HEADS, DIM = 8, 2, 16
POSITIONS = [0, 5, BLOCK - 1, BLOCK, 2 * BLOCK - 2, 3 * BLOCK - 1]
CONFIG = LlamaConfig(
    hidden_size=HEADS * DIM, num_attention_heads=HEADS, num_key_value_heads=KEY_HEADS, num_hidden_layers=1
)


def filled_cache() -> SlotCache:
    """A cache of rows that hold random keys and values up to POSITIONS, and garbage behind."""
    cache = SlotCache(CONFIG, len(POSITIONS), 3 * BLOCK, torch.float32, "cpu")
    for tensor in (*cache.keys, *cache.values):
        tensor.normal_(generator=torch.Generator().manual_seed(0))
    cache.positions.copy_(torch.tensor(POSITIONS))
    return cache


@pytest.mark.parametrize("steps", [1, 3])
def test_each_row_attends_to_its_own_tokens_and_no_others(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    monkeypatch.setattr(slots, "_compiled_flex", lambda: flex_attention)
    cache = filled_cache()
    cache.positions -= torch.tensor([min(steps - 1, place) for place in POSITIONS])
    cache.blocks = FilledBlocks(cache.positions, cache.length)
    generator = torch.Generator().manual_seed(1)
    module = SimpleNamespace(slot_cache=cache)
    for _ in range(steps):  # the counts are brought up in place, as a recorded step does
        cache.decode(cache.length)
        query = torch.randn((len(POSITIONS), HEADS, 1, DIM), generator=generator)
        new_keys, new_values = (torch.randn((len(POSITIONS), KEY_HEADS, 1, DIM), generator=generator) for _ in range(2))
        keys, values = cache.update(new_keys, new_values, 0)
        found, _ = slot_attention(module, query, keys, values, None)
        for row, place in enumerate(cache.positions.tolist()):
            own_keys, own_values = (
                tensor[0][row : row + 1, :, : place + 1].repeat_interleave(HEADS // KEY_HEADS, dim=1)
                for tensor in (cache.keys, cache.values)
            )
            expected = functional.scaled_dot_product_attention(query[row : row + 1], own_keys, own_values)
            torch.testing.assert_close(found[row : row + 1], expected.transpose(1, 2), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(cache.keys[0][row, :, place], new_keys[row, :, 0])
        cache.positions += (cache.positions < cache.length - 1).long()
