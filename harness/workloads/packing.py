"""Proof that rows packed into one sequence do not see each other."""

from __future__ import annotations

from typing import Any

import torch

from harness.errors import NotAvailable

ROW_TOKENS = 16
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
"""Largest allowed logit difference as a share of the largest logit: about two units in the last place of the dtype."""


def check_rows_apart(model: Any, rows: Any, *, told_lengths: bool = False) -> None:
    """Put two different rows before the same one in a sequence and compare its logits. NotAvailable if they differ.

    trl packs without an attention mask and leaves it to the positions, which start again at 0, to keep rows apart.
    With `told_lengths` the rows' lengths are given besides, as unsloth's batches have them. Both sequences have one
    shape, so rounding is the same in both: where nothing is seen of the row before, nothing differs.
    """
    second = torch.tensor([rows[-1]["input_ids"][:ROW_TOKENS]], device=model.device)
    first = torch.tensor([rows[0]["input_ids"][:ROW_TOKENS]], device=model.device)
    other = first.flip(1).roll(1, dims=1)  # the same tokens in another order
    positions = torch.cat([torch.arange(first.shape[1]), torch.arange(second.shape[1])])[None].to(model.device)
    lengths = {}
    if told_lengths:
        lengths["packed_seq_lengths"] = torch.tensor([first.shape[1], second.shape[1]], dtype=torch.int32)
    training = model.training
    model.eval()
    with torch.no_grad():
        behind_first, behind_other = (
            model(
                input_ids=torch.cat([before, second], dim=1), position_ids=positions, use_cache=False, **lengths
            ).logits[:, first.shape[1] :]
            for before in (first, other)
        )
    model.train(training)
    difference = float((behind_first - behind_other).abs().max() / behind_first.abs().max())
    if not difference <= TOLERANCE[behind_first.dtype]:
        raise NotAvailable(
            f"packing: with attention '{model.config._attn_implementation}' a packed row sees the rows before it "
            f"(another row before it changes its logits by {difference:.1%} of the largest).",
            "Set packing: false, or another attention.",
        )
