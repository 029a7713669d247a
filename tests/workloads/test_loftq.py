"""LoftQ's start against the best that a matrix of that rank can do (Eckart and Young 1936), on known matrices."""

from __future__ import annotations

import pytest
import torch

from harness.workloads.loftq import best_factors


@pytest.mark.parametrize("scale", [1.0, 0.25, 4.0])
@pytest.mark.parametrize("shape", [(96, 256), (256, 96), (64, 64)])
def test_the_factors_are_nearly_the_best_of_their_rank(shape: tuple[int, int], scale: float) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)  # rounding errors look like noise: the hardest case, with no gap in the spectrum
    a, b = best_factors(matrix, 8, scale)
    assert (a.shape, b.shape) == ((8, shape[1]), (shape[0], 8))
    best = float(torch.linalg.svdvals(matrix)[8:].square().sum())
    assert float((matrix - scale * (b @ a)).square().sum()) <= 1.005 * best


def test_a_matrix_of_low_rank_is_met_exactly() -> None:
    torch.manual_seed(1)
    matrix = torch.randn(50, 4) @ torch.randn(4, 70)
    a, b = best_factors(matrix, 4, 2.0)
    torch.testing.assert_close(2.0 * (b @ a), matrix, atol=1e-3, rtol=0)


def test_both_factors_share_the_size() -> None:
    torch.manual_seed(2)
    a, b = best_factors(torch.randn(40, 60), 4, 1.0)
    torch.testing.assert_close(a.norm(dim=1), b.norm(dim=0))
