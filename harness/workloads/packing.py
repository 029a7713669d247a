"""Proof that rows packed into one sequence do not see each other."""

from __future__ import annotations

from typing import Any

import torch

from harness.errors import NotAvailable

ROW_TOKENS = 16
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 4e-3}
"""Largest allowed logit difference, packed against alone, as a share of the largest logit: rounding, by dtype."""


def check_rows_apart(model: Any, rows: Any) -> None:
    """Run a row behind another in one sequence, and alone, and compare the logits. NotAvailable if they differ.

    trl packs without an attention mask and leaves it to the positions, which start again at 0, to keep rows apart.
    """
    first = torch.tensor([rows[0]["input_ids"][:ROW_TOKENS]], device=model.device)
    second = torch.tensor([rows[-1]["input_ids"][:ROW_TOKENS]], device=model.device)
    positions = torch.cat([torch.arange(first.shape[1]), torch.arange(second.shape[1])])[None].to(model.device)
    training = model.training
    model.eval()
    with torch.no_grad():
        packed = model(input_ids=torch.cat([first, second], dim=1), position_ids=positions, use_cache=False).logits
        alone = model(input_ids=second, use_cache=False).logits
    model.train(training)
    difference = float((packed[:, first.shape[1] :] - alone).abs().max() / alone.abs().max())
    if not difference <= TOLERANCE[alone.dtype]:
        raise NotAvailable(
            f"packing: with attention '{model.config._attn_implementation}' a packed row sees the rows before it "
            f"(logits differ by {difference:.1%} of the largest).",
            "Set packing: false, or another attention.",
        )
