"""The proof that rows of one vLLM do not mix, against a stand-in that begins with the first request at once.

So does vLLM. What the stand-in leaves out, the tests of a real vLLM have (`test_vllm.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from harness.engine.vllm import VllmEngine
from harness.orders import Partner
from harness.suite import Adapter, Model
from tests.orders import make_order
from tests.vllm_runs import TINY_KO

LOGPROBS = {None: (-0.1, -3.0), "tuned": (-2.5, -0.2), "other": (-4.0, -0.9)}
"""Of two tokens, by the base (None) and by each adapter."""


class StandIn:
    """Answers each request by its adapter; if it `mixes`, a row without one takes the last adapter of its batch."""

    def __init__(self, mixes: bool) -> None:
        self.mixes = mixes
        config = SimpleNamespace(hf_config=SimpleNamespace(eos_token_id=2))
        core = SimpleNamespace(shutdown=lambda: None)
        self.llm_engine = SimpleNamespace(engine_core=core, model_config=config)

    def reset_prefix_cache(self) -> None:
        """There is none."""

    def generate(self, prompts: Any, params: Any, lora_request: Sequence[Any], use_tqdm: bool) -> list[Any]:
        names = [one and one.name for one in lora_request]
        return [row for batch in (names[:1], names[1:]) for row in self._together(batch)]

    def _together(self, names: list[str | None]) -> list[Any]:
        last = next((name for name in reversed(names) if name), None) if self.mixes else None
        rows = [dict(enumerate(LOGPROBS[name or last])) for name in names]
        entries = [{token: SimpleNamespace(logprob=value) for token, value in row.items()} for row in rows]
        return [SimpleNamespace(outputs=[SimpleNamespace(logprobs=[entry])]) for entry in entries]


@pytest.fixture(autouse=True)
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the two classes that requests are made of where vLLM has them."""
    package, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    package.SamplingParams = SimpleNamespace  # type: ignore[attr-defined]
    request.LoRARequest = lambda name, number, place: SimpleNamespace(name=name)  # type: ignore[attr-defined]
    for module in (package, lora, request):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def engine(mixes: bool, *adapters: str) -> VllmEngine:
    model = Model(path="model", prompt_format="alpaca_ko", dtype="bfloat16")
    tuned = model.model_copy(update={"adapter": Adapter(path="adapter")})
    models = [Partner(name="base", model=model)]
    models += [
        Partner(name=name, model=tuned, adapter_place=f"/adapters/{name}", adapter_hash=name) for name in adapters
    ]
    return VllmEngine(make_order(TINY_KO, model=model), models, StandIn(mixes), 1.0)


@pytest.mark.parametrize("adapters", [("tuned",), ("tuned", "other")])
def test_a_base_row_that_takes_an_adapter_of_its_batch_is_found(adapters: tuple[str, ...]) -> None:
    assert engine(True, *adapters).rows_that_mix() == "base"


@pytest.mark.parametrize("adapters", [("tuned",), ("tuned", "other")])
def test_rows_that_are_each_their_own_pass(adapters: tuple[str, ...]) -> None:
    assert engine(False, *adapters).rows_that_mix() is None
