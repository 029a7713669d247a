"""A model of our backends as lm-eval's own `hf` model: the same weights, adapter and dtype, no second loading."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM

from harness.backends.proofs import check_single_bos
from harness.backends.transformers_model import TransformersModel
from harness.prompt_formats import render


class EvaluatedModel(HFLM):  # type: ignore[misc]
    """lm-eval's scoring and generation around a model that is already loaded.

    `apply_chat_template` puts texts into the model's own prompt format; `on_request` is called with (done, total)
    requests. HarnessError if a text begins with two BOS tokens.
    """

    def __init__(
        self, loaded: TransformersModel, batch_size: int | str, on_request: Callable[[int, int], None]
    ) -> None:
        model = loaded.order.model
        super().__init__(
            pretrained=loaded.model,
            tokenizer=loaded.tokenizer,
            backend="causal",
            batch_size=batch_size,
            max_length=model.max_seq_length,
        )
        self._prompt_format = model.prompt_format
        self._counter = _Counter(on_request)
        self.set_cache_hook(self._counter)
        # lm-eval stops at the tokenizer's end token alone; a chat model may end its turn with another.
        loaded.model.generation_config.eos_token_id = loaded.end_tokens

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render turns in the model's prompt format; without `add_generation_prompt` the last turn stays open."""
        if self._prompt_format == "chat_template":
            return str(super().apply_chat_template(chat_history, add_generation_prompt))
        turns = [
            render(self._prompt_format, turn["content"]) if turn["role"] == "user" else f"{turn['content']}\n\n"
            for turn in chat_history
        ]
        return "".join(turns) if add_generation_prompt else "".join(turns).removesuffix("\n\n")

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Score continuations; see `LM.loglikelihood`."""
        self._expect(requests)
        self._check_bos([self.tok_encode(request.args[0]) for request in requests[:1]])
        scored: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return scored

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Score whole texts; see `LM.loglikelihood_rolling`."""
        self._expect(requests)
        scored: list[float] = super().loglikelihood_rolling(requests, disable_tqdm=True)
        return scored

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Generate answers; see `LM.generate_until`."""
        self._expect(requests)
        self._check_bos([self.tok_batch_encode([request.args[0]])[0][0].tolist() for request in requests[:1]])
        answers: list[str] = super().generate_until(requests, disable_tqdm=True)
        return answers

    def _expect(self, requests: Sequence[Any]) -> None:
        self._counter.total += len(requests)

    def _check_bos(self, encoded: list[list[int]]) -> None:
        for ids in encoded:
            tensor = torch.tensor([ids])
            check_single_bos({"input_ids": tensor, "attention_mask": torch.ones_like(tensor)}, self.tokenizer)


class _Counter:
    """Counts finished requests in the place where lm-eval would keep them in a cache. Nothing is kept."""

    def __init__(self, on_request: Callable[[int, int], None]) -> None:
        self.done = self.total = 0
        self._on_request = on_request

    def add_partial(self, attr: str, req: object, res: object) -> None:
        self.done += 1
        self._on_request(self.done, self.total)
