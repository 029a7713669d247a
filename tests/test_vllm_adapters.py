"""What vLLM is asked to take, from what the adapters' folders say; without vLLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.engine import EngineUnsuited
from harness.engine.vllm import load
from harness.vllm_adapters import not_taken, rank_that_holds
from tests.orders import make_order
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


@pytest.mark.parametrize(
    ("config", "scaled_apart"),
    [
        ({"r": 8, "lora_alpha": 16}, False),
        ({"r": 8, "lora_alpha": 16, "rank_pattern": {"q_proj": 32}}, True),
        ({"r": 8, "lora_alpha": 16, "alpha_pattern": {"q_proj": 32}}, True),
        ({"r": 8, "lora_alpha": 16, "rank_pattern": {"q_proj": 32}, "alpha_pattern": {"q_proj": 64}}, False),
        (
            {"r": 8, "lora_alpha": 16, "rank_pattern": {"q": 32}, "alpha_pattern": {"q": 32}, "use_rslora": True},
            False,
        ),
    ],
)
def test_vllm_takes_patterns_only_where_all_layers_are_scaled_alike(
    config: dict[str, Any], scaled_apart: bool, tmp_path: Path
) -> None:
    adapter = str(write_adapter(tmp_path / "adapter", **config))
    assert not_taken(adapter) == ("layers scaled apart (rank_pattern, alpha_pattern)" if scaled_apart else None)


def test_the_engine_leaves_to_the_plain_path_what_vllm_does_not_take(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", rank_pattern={"q_proj": 40})
    with pytest.raises(EngineUnsuited, match="vLLM takes no adapter with layers scaled apart"):
        load(make_order(tmp_path, adapter=adapter))
