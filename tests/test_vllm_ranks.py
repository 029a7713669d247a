"""The rank that vLLM is started with, from what the adapters' folders say; without vLLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.vllm_ranks import rank_that_holds
from tests.servers.runs import write_adapter


@pytest.mark.parametrize(
    ("configs", "rank"),
    [
        ([{"r": 4}], 8),
        ([{"r": 16}], 16),
        ([{"r": 8}, {"r": 17}], 32),
        ([{"r": 8, "rank_pattern": {"q_proj": 40, "v_proj": 4}}], 64),  # its own `r` alone would give 8
        ([{"r": 64, "rank_pattern": None}], 64),
        ([{"r": 600}], 600),  # vLLM says itself that it takes no such rank
    ],
)
def test_vllm_starts_with_room_for_the_largest_rank_of_any_layer(
    configs: list[dict[str, Any]], rank: int, tmp_path: Path
) -> None:
    adapters = [str(write_adapter(tmp_path / str(number), **config)) for number, config in enumerate(configs)]
    assert rank_that_holds(adapters) == rank


def test_an_adapter_on_a_hub_is_not_looked_into(tmp_path: Path) -> None:
    assert rank_that_holds(["my-org/my-adapter"]) == 8
    assert rank_that_holds(["my-org/my-adapter", str(write_adapter(tmp_path / "own", r=32))]) == 32
