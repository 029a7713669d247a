"""Operations and bytes that a decoder needs for reading a prompt, writing tokens and a LoRA step. Pure arithmetic.

Operations are multiplications and additions, each counted as one (FLOP). A matrix product of n weights costs 2 n a
token; attention costs 4 * layers * heads * head size a token for each position looked at, half of it for the scores
and half for the weighted sum: Hoffmann et al., "Training Compute-Optimal Large Language Models" (2022), appendix F.
Kaplan et al., "Scaling Laws for Neural Language Models" (2020), section 2.1, count the same 2 N a token. Softmax, norms
and rotary embedding are left out. A causal model looks at half of the square, and that half is what is counted.

Bytes are the least that must cross the memory bus: the weights as they are stored, once a step, and the keys and
values written and read. Activations are left out, so intensities (FLOP / byte) are upper limits, good where weights
and cache dominate: decoding, and short prompts in small batches.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ModelShape:
    """What of a model decides its cost. Parameters are weights of matrix products, the embedding table left out."""

    layers: int
    query_width: int
    """Attention heads * head size."""
    key_value_width: int
    """Key-value heads * head size: the width of one layer's keys, and again of its values."""
    body_parameters: int
    """In all layers, LoRA matrices included."""
    head_parameters: int
    """In the output layer, which prefill applies to the last position alone."""
    lora_parameters: int
    body_bytes: int
    """Of the layers, as stored; quantized weights with their scales."""
    head_bytes: int
    cache_element_bytes: int

    @property
    def cache_bytes_per_token(self) -> int:
        """Keys and values of one token over all layers."""
        return 2 * self.layers * self.key_value_width * self.cache_element_bytes


@dataclass(frozen=True)
class Work:
    """Operations, and bytes over the memory bus."""

    flop: float
    bytes: float

    @property
    def intensity(self) -> float:
        """FLOP per byte."""
        return self.flop / self.bytes


def prefill_work(shape: ModelShape, batch_size: int, prompt_tokens: int) -> Work:
    """Cost of reading a batch of prompts up to the first new token."""
    looked_at = prompt_tokens * (prompt_tokens + 1) / 2
    row = (
        2 * shape.body_parameters * prompt_tokens
        + 2 * shape.head_parameters
        + 4 * shape.layers * shape.query_width * looked_at
    )
    # Keys and values are written and, by attention, read once.
    cache = 2 * batch_size * prompt_tokens * shape.cache_bytes_per_token
    return Work(batch_size * row, shape.body_bytes + shape.head_bytes + cache)


def decode_work(shape: ModelShape, batch_size: int, prompt_tokens: int, new_tokens: int) -> Work:
    """Cost of the steps from the first new token to the last: `new_tokens` - 1 of them."""
    steps = new_tokens - 1
    looked_at = sum(prompt_tokens + step for step in range(1, new_tokens))
    row = 2 * (shape.body_parameters + shape.head_parameters) * steps + 4 * shape.layers * shape.query_width * looked_at
    cache = batch_size * (looked_at + steps) * shape.cache_bytes_per_token
    return Work(batch_size * row, steps * (shape.body_bytes + shape.head_bytes) + cache)


def lora_step_work(shape: ModelShape, batch_size: int, tokens: int) -> Work:
    """Cost of one LoRA step over `batch_size` rows of `tokens`, without recomputed activations.

    Forward 2 n a token; backward 2 n for the gradients of the activations, and 2 n more for those of the weights, which
    only LoRA matrices need; attention three times its forward cost. The weights are read twice; what activations
    and optimizer move is left out.
    """
    parameters = shape.body_parameters + shape.head_parameters
    looked_at = tokens * (tokens + 1) / 2
    row = (
        4 * parameters * tokens
        + 2 * shape.lora_parameters * tokens
        + 3 * 4 * shape.layers * shape.query_width * looked_at
    )
    return Work(batch_size * row, 2 * (shape.body_bytes + shape.head_bytes))
