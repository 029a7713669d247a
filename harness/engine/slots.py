"""A key-value cache of fixed rows, and the attention over it.

Every row ('slot') holds one sequence and has a length of its own, so that a row can be given to the next prompt while
the others go on. Keys and values never move and never grow: their addresses can be recorded in a CUDA graph.

On a GPU a decoding step attends by torch's flex attention (Dong et al. 2024, arXiv:2412.05496), which reads of each row
the blocks that it has filled and no others. On a CPU it attends to a window that holds the longest row, with a mask.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from transformers import AttentionInterface

from harness.engine import EngineUnsuited

ATTENTION = "harness_slots"
UNSUPPORTED_ARGUMENTS = ("sliding_window", "softcap", "s_aux")
"""What some models hand to their attention and this one does not do."""
BLOCK = 128
"""Places that flex attention takes or leaves together, and by which the window of a CPU grows."""


class SlotCache:
    """Keys and values of all layers, each (slots, key-value heads, length, head dimension), and who uses them now.

    transformers hands each layer's new keys and values to `update`. While a prompt is read (`read_prompts`) they are
    stored under the given slots and attention sees them alone; in a decoding step they are stored at each slot's
    `positions` and attention sees every slot up to there: through `blocks` on a GPU, through `mask` and the first
    `window` places on a CPU. `length` is a multiple of BLOCK.
    """

    is_compileable = False

    def __init__(self, config: Any, slots: int, length: int, dtype: torch.dtype, device: str) -> None:
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (slots, heads, length, head_dim)
        # zeros: an unused place is masked with weight 0, and 0 * NaN of uninitialised memory would be NaN.
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_hidden_layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.num_hidden_layers)]
        self.slots, self.length = slots, length
        self.rows = torch.arange(slots, device=device)
        self.places = torch.arange(length, device=device)
        self.positions = torch.zeros(slots, dtype=torch.long, device=device)
        self.store: Callable[..., None] = store_step
        self.mask: torch.Tensor | None = None
        self.blocks = FilledBlocks(self.positions, length) if self.rows.device.type == "cuda" else None
        self._window = length
        self._reading: torch.Tensor | None = None

    @property
    def decoding(self) -> bool:
        """Whether attention is that of a decoding step."""
        return self._reading is None

    def read_prompts(self, slots: torch.Tensor) -> None:
        """Store what comes next from place 0 of these slots, (rows,)."""
        self._reading = slots

    def decode(self, window: int) -> None:
        """Store what comes next at `positions`, one token a slot. `window` places hold the longest (on a CPU)."""
        self._reading, self._window = None, window
        if self.blocks is not None:
            self.blocks.count()
            return
        unseen = self.places[:window] > self.positions[:, None]
        smallest = torch.finfo(self.keys[0].dtype).min
        self.mask = torch.zeros(unseen.shape, dtype=self.keys[0].dtype, device=unseen.device).masked_fill_(
            unseen, smallest
        )[:, None, None, :]

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store a layer's new keys and values and return those that attention is to see."""
        all_keys, all_values = self.keys[layer_idx], self.values[layer_idx]
        if self._reading is not None:
            width = keys.shape[2]
            all_keys[self._reading, :, :width] = keys
            all_values[self._reading, :, :width] = values
            return keys, values
        self.store(all_keys, all_values, self.rows, self.positions, keys, values)
        if self.blocks is not None:
            return all_keys, all_values
        return all_keys[:, :, : self._window], all_values[:, :, : self._window]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions are always given to the model; it has no need to ask."""
        return 0


def store_step(
    all_keys: torch.Tensor,
    all_values: torch.Tensor,
    rows: torch.Tensor,
    positions: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
) -> None:
    """Put one token's keys and values, (slots, heads, 1, dim), at each slot's position."""
    all_keys[rows, :, positions] = keys[:, :, 0]
    all_values[rows, :, positions] = values[:, :, 0]


class FilledBlocks:
    """Which blocks of each slot attention reads: the full ones whole, the one that is being filled up to its position.

    The tensors stay where they are and are counted anew in every step, inside the recorded graph.
    """

    def __init__(self, positions: torch.Tensor, length: int) -> None:
        slots, blocks = len(positions), length // BLOCK
        self.positions = positions
        self.full = torch.zeros((slots, 1, 1), dtype=torch.int32, device=positions.device)
        self.begun = torch.zeros_like(self.full)
        self.begun_place = torch.zeros((slots, 1, 1, blocks), dtype=torch.int32, device=positions.device)
        every_place = torch.arange(blocks, dtype=torch.int32, device=positions.device)
        self.mask = BlockMask.from_kv_blocks(
            self.begun,
            self.begun_place,
            self.full,
            every_place.expand(slots, 1, 1, blocks).contiguous(),
            BLOCK_SIZE=BLOCK,
            mask_mod=lambda slot, head, query, place: place <= positions[slot],
            seq_lengths=(1, length),
        )

    def count(self) -> None:
        """Bring the counts up to the positions."""
        seen = (self.positions + 1)[:, None, None]
        self.full.copy_(seen // BLOCK)
        self.begun.copy_(seen % BLOCK > 0)
        self.begun_place[..., 0].copy_(self.full)


def use_slot_attention(model: Any, cache: SlotCache) -> None:
    """Make the model's layers attend through `cache`. EngineUnsuited if they do more than full causal attention."""
    config = model.config
    kinds = set(getattr(config, "layer_types", None) or ("full_attention",))
    if kinds != {"full_attention"} or (
        getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True)
    ):
        raise EngineUnsuited("it does not attend to the whole text in every layer")
    if getattr(model, "_supports_attention_backend", False) is not True:
        raise EngineUnsuited("its attention cannot be replaced")
    AttentionInterface.register(ATTENTION, slot_attention)
    config._attn_implementation = ATTENTION
    for module in model.modules():
        if hasattr(module, "layer_idx"):
            module.slot_cache = cache


def slot_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: object,
    scaling: float | None = None,
    **arguments: object,
) -> tuple[torch.Tensor, None]:
    """Attend causally over a prompt, or with one query a row over the slots. Queries are (rows, heads, tokens, dim).

    On a CPU the query heads that share a key-value head are put side by side as if they were tokens, so that keys and
    values are read once and not copied for each of them; flex attention does that by itself.
    """
    for name in UNSUPPORTED_ARGUMENTS:
        if arguments.get(name) is not None:
            raise EngineUnsuited(f"its attention uses {name}")
    cache: SlotCache = module.slot_cache
    shared = query.shape[1] != key.shape[1]
    if not cache.decoding:
        out = functional.scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=shared
        )
        return out.transpose(1, 2), None
    if cache.blocks is not None:
        out = _compiled_flex()(query, key, value, block_mask=cache.blocks.mask, scale=scaling, enable_gqa=shared)
        return out.transpose(1, 2), None
    assert cache.mask is not None
    rows, heads, _, dim = query.shape
    grouped = query.reshape(rows, key.shape[1], heads // key.shape[1], dim)
    visible = cache.mask.expand(rows, grouped.shape[1], grouped.shape[2], key.shape[2])
    out = functional.scaled_dot_product_attention(grouped, key, value, attn_mask=visible, scale=scaling)
    return out.reshape(rows, 1, heads, dim), None


@functools.cache
def _compiled_flex() -> Callable[..., torch.Tensor]:
    """Flex attention is a fused kernel only when compiled."""
    compiled: Callable[..., torch.Tensor] = torch.compile(flex_attention, dynamic=False)
    return compiled


def slots_for(indices: Sequence[int], device: str) -> torch.Tensor:
    """Return slot numbers as an index tensor, (rows,)."""
    return torch.tensor(indices, dtype=torch.long, device=device)
