"""One decoding step for all slots, recorded once as a CUDA graph and replayed without the host having a say.

Decoding is bound by memory bandwidth: a step must read every weight and every stored key and value once, and nothing
else should cost time. Launching a step's ~1,000 kernels from Python takes longer than running them, so they are
recorded; choosing the token and checking for the end are part of the record, and the host learns of an end later.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from harness.engine.fusing import compiled_pieces
from harness.engine.joint_linear import RowPlan, Span
from harness.engine.slots import BLOCK, SlotCache, slots_for
from harness.suite import Sampling

PROMPT_TOKENS_AT_ONCE = 16_384
"""Padded prompt tokens read in one go: enough to keep a large GPU busy, few enough for the memory of a small one."""


class Stepper:
    """The rows of one cache: reads prompts into them and makes decoding steps for all of them."""

    def __init__(
        self,
        model: Any,
        cache: SlotCache,
        rows: RowPlan,
        spans: dict[str, Span],
        sampling: Sampling,
        end_tokens: Sequence[int],
    ) -> None:
        self.model, self.cache, self.rows, self.spans, self.sampling = model, cache, rows, spans, sampling
        self.device = cache.rows.device
        slots = cache.slots
        self.tokens = torch.zeros(slots, dtype=torch.long, device=self.device)
        self.counts = torch.zeros(slots, dtype=torch.long, device=self.device)
        self.active = torch.zeros(slots, dtype=torch.bool, device=self.device)
        # one place more than an answer has: an ended row goes on writing into its last place
        self.written = torch.zeros((slots, sampling.max_new_tokens + 1), dtype=torch.long, device=self.device)
        self.uniforms = torch.zeros(self.written.shape, device=self.device)
        self.end_tokens = torch.tensor(list(end_tokens) or [-1], dtype=torch.long, device=self.device)
        self.logits = torch.empty(0)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.warmup_seconds = 0.0

    def read_prompts(
        self, slots: Sequence[int], prompts: Sequence[Sequence[int]], draws: Sequence[int] | None = None
    ) -> None:
        """Give slots their prompts. All tokens but the last are read now; the last is the next step's input.

        `draws` seed what is drawn for each prompt. Slots are in ascending order. Rows are padded on the right, where
        causal attention never looks.
        """
        width = max(len(prompt) for prompt in prompts) - 1
        if draws and self.sampling.temperature > 0:
            numbers = torch.stack([self._numbers(draw) for draw in draws])
            self.uniforms[slots_for(slots, str(self.device))] = numbers.to(self.device)
        at_once = max(1, PROMPT_TOKENS_AT_ONCE // max(1, width))
        for start in range(0, len(slots), at_once):
            self._read(slots[start : start + at_once], prompts[start : start + at_once])

    def _numbers(self, draw: int) -> torch.Tensor:
        return torch.rand(self.uniforms.shape[1], generator=torch.Generator().manual_seed(draw))

    def _read(self, slots: Sequence[int], prompts: Sequence[Sequence[int]]) -> None:
        width = max(len(prompt) for prompt in prompts) - 1
        index = slots_for(slots, str(self.device))
        ids = torch.tensor([[*prompt[:-1], *[0] * (width + 1 - len(prompt))] for prompt in prompts], dtype=torch.long)
        if width:
            self.cache.read_prompts(index)
            self.rows.count = len(slots)
            self.rows.spans = {
                name: (sum(slot < first for slot in slots), sum(slot < last for slot in slots))
                for name, (first, last) in self.spans.items()
            }
            places = self.cache.places[:width].expand(len(prompts), width)
            self._forward(ids.to(self.device), places)
        self.tokens[index] = slots_for([prompt[-1] for prompt in prompts], str(self.device))
        self.cache.positions[index] = slots_for([len(prompt) - 1 for prompt in prompts], str(self.device))
        self.counts[index] = 0
        self.active[index] = True

    def step(self, longest: int) -> None:
        """Write one token into every active slot. `longest` is the length of the longest of them with that token."""
        if self.device.type != "cuda":
            self._step(min(self.cache.length, -(-longest // BLOCK) * BLOCK))
            return
        if self.graph is None:
            started = time.perf_counter()
            self.graph = self._record()
            self.warmup_seconds += time.perf_counter() - started
        self.graph.replay()

    def _record(self) -> torch.cuda.CUDAGraph:
        """Record the step. Running it once first compiles and plans what must not be recorded."""
        with self._state_kept(), compiled_pieces(self.model, self.cache):
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._step(self.cache.length)
            torch.cuda.current_stream().wait_stream(stream)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                self._step(self.cache.length)
        return graph

    @contextlib.contextmanager
    def _state_kept(self) -> Iterator[None]:
        state = (self.tokens, self.counts, self.active, self.written, self.cache.positions)
        before = [tensor.clone() for tensor in state]
        yield
        for tensor, old in zip(state, before, strict=True):
            tensor.copy_(old)

    def _step(self, window: int) -> None:
        self.rows.spans, self.rows.count = self.spans, self.cache.slots
        self.cache.decode(window)
        self.logits = self._forward(self.tokens[:, None], self.cache.positions[:, None])
        uniform = self.uniforms.gather(1, self.counts[:, None])[:, 0]
        chosen = choose(self.logits, self.sampling, uniform)
        self.written.scatter_(1, self.counts[:, None], chosen[:, None])
        self.tokens.copy_(chosen)
        self.counts += self.active
        self.cache.positions += self.active
        ended = torch.isin(chosen, self.end_tokens) | (self.counts >= self.sampling.max_new_tokens)
        self.active &= ~ended

    def _forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Return the logits of the last token of each row, (rows, vocabulary), in float32."""
        output = self.model(
            input_ids=ids, position_ids=positions, past_key_values=self.cache, use_cache=True, logits_to_keep=1
        )
        logits: torch.Tensor = output.logits[:, -1].float()
        return logits


def choose(logits: torch.Tensor, sampling: Sampling, uniform: torch.Tensor) -> torch.Tensor:
    """Return a token per row: the likeliest at temperature 0, else one drawn from the nucleus of mass top_p.

    `logits` are (rows, vocabulary), `uniform` one number of [0, 1) a row: the draw inverts the distribution function of
    the tokens ordered by probability, so that a row's own number decides, whatever rows are beside it. The nucleus is
    the smallest set of likeliest tokens whose mass reaches top_p (Holtzman et al. 2020, arXiv:1904.09751).
    """
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    ordered, order = (logits / sampling.temperature).softmax(dim=-1).sort(dim=-1, descending=True)
    reached = ordered.cumsum(dim=-1)
    kept = ordered.masked_fill(reached - ordered >= sampling.top_p, 0.0)
    reached = kept.cumsum(dim=-1)
    place = (reached <= uniform[:, None] * reached[:, -1:]).sum(dim=-1, keepdim=True)
    last = (kept > 0).sum(dim=-1, keepdim=True) - 1  # rounding must not lead out of the nucleus
    return order.gather(1, torch.minimum(place, last))[:, 0]
