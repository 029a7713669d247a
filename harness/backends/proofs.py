"""Checks on a loaded model, made before any answer of it counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from harness.errors import HarnessError, PrecisionMismatch

if TYPE_CHECKING:
    from harness.backends.transformers_model import TransformersModel

PADDING_TOLERANCE = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 2e-2}
"""Largest allowed logit difference between a padded batch and the prompt alone, as a share of the largest logit.

Rounding differs with the shape of a matrix product: a few units in the last place of the dtype, summed over layers.
"""
PADDING_TEST_TOKENS = 4


@dataclass(frozen=True)
class PaddingCheck:
    """Largest absolute logit difference seen and the one allowed."""

    difference: float
    tolerance: float


def next_token_logits(model: Any, encoded: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return the logits after the last token, (batch, vocabulary), in float32."""
    with torch.inference_mode():
        logits: torch.Tensor = model(**encoded).logits[:, -1].float()
    return logits


def prove_adapter(
    adapted: Any, name: str, before: torch.Tensor, probe: Mapping[str, torch.Tensor], place: str
) -> tuple[int, float]:
    """Return how many LoRA B matrices of the adapter are not zero, and the largest logit change from `before`.

    HarnessError if there is none.

    B starts at zero, so an adapter that was never trained, or never put on, shows here.
    """
    matrices = (value for key, value in adapted.named_parameters() if "lora_B" in key and f".{name}." in key)
    nonzero = sum(bool(matrix.any()) for matrix in matrices)
    change = float((next_token_logits(adapted, probe) - before).abs().max())
    if nonzero == 0 or change == 0.0:
        raise HarnessError(
            f"{place}: the adapter changes nothing ({nonzero} non-zero B matrices, largest logit change {change}).",
            "Was it trained, and for this base model?",
        )
    return nonzero, change


def check_compute_dtype(model: Any, probe: Mapping[str, torch.Tensor], requested: str) -> str:
    """Return the dtype that reaches the output layer. PrecisionMismatch if it is not the one asked for."""
    seen: list[str] = []

    def note(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(str(inputs[0].dtype).removeprefix("torch."))

    hook = model.get_output_embeddings().register_forward_pre_hook(note)
    try:
        next_token_logits(model, probe)
    finally:
        hook.remove()
    if seen[0] != requested:
        raise PrecisionMismatch(
            f"dtype: {requested} was asked for, but the model computes in {seen[0]}.",
            "Some models are switched to another precision by the library that loads them; ask for that one.",
        )
    return seen[0]


def check_single_bos(encoded: Mapping[str, torch.Tensor], tokenizer: Any) -> int:
    """Return how many BOS tokens the prompts begin with (0 or 1). HarnessError for more: it changes every answer."""
    bos = tokenizer.bos_token_id
    ids = encoded["input_ids"][0][encoded["attention_mask"][0].bool()].tolist()
    count = 0
    while bos is not None and count < len(ids) and ids[count] == bos:
        count += 1
    if count > 1:
        raise HarnessError(f"The prompt begins with {count} BOS tokens; the prompt format already writes one.")
    return count


def check_padding(loaded: TransformersModel, prompts: Sequence[str]) -> PaddingCheck:
    """Generate for a left-padded batch and for each prompt alone and compare the logits. HarnessError if they differ.

    Later steps are compared as long as both took the same tokens.
    """
    together_tokens, together = _generate_with_logits(loaded, prompts)
    difference, largest = 0.0, 0.0
    for row, prompt in enumerate(prompts):
        alone_tokens, alone = _generate_with_logits(loaded, [prompt])
        for step in range(PADDING_TEST_TOKENS):
            difference = max(difference, float((together[step][row] - alone[step][0]).abs().max()))
            largest = max(largest, float(alone[step][0].abs().max()))
            if together_tokens[row, step] != alone_tokens[0, step]:
                break
    tolerance = PADDING_TOLERANCE[loaded.order.model.dtype] * largest
    if not difference <= tolerance:
        raise HarnessError(
            f"Padding self-test: logits of a left-padded batch differ by {difference:.3g} from those of "
            f"the prompt alone (allowed {tolerance:.3g}).",
            "Batched answers of this backend cannot be trusted here; set sampling.batch_size to 1.",
        )
    return PaddingCheck(difference, tolerance)


def _generate_with_logits(loaded: TransformersModel, prompts: Sequence[str]) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return new tokens (batch, steps) and per step the logits (batch, vocabulary) in float32."""
    encoded = loaded.encode(prompts)
    with torch.inference_mode():
        output = loaded.model.generate(
            **encoded,
            max_new_tokens=PADDING_TEST_TOKENS,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
        )
    tokens = output.sequences[:, encoded["input_ids"].shape[1] :]
    return tokens, [logits.float() for logits in output.logits]
